"""Trains `qasir-tiny`, the packaged VLM, or one of another size, from nothing, on single rendered scenes.

Hidden matrices are trained by Muon, the rest by AdamW; the learning rate warms up, stays, and decays linearly.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from qasir.demo.muon import Muon
from qasir.demo.scene_batches import SceneBatch, SceneBatches
from qasir.demo.scene_losses import SceneLosses
from qasir.demo.training_plan import TrainingPlan
from qasir.training.state import TrainingState

log = logging.getLogger(__name__)

KIND = "packaged VLM"
_LOG_EVERY = 50
_SAVE_EVERY_S = 120.0

Load = Callable[[SceneBatches], Iterable[SceneBatch]]
"""Makes the batches, in their order."""


class Trainer:
    """The losses' weights and their optimisers; the state's position is the batch that comes next."""

    def __init__(self, plan: TrainingPlan, config: dict[str, Any], state: TrainingState) -> None:
        self.plan, self.state = plan, state
        self.losses = SceneLosses(plan, config)
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = [self.losses.patch_scale, self.losses.prototypes]
        for name, parameter in self.losses.model.named_parameters():
            hidden = parameter.ndim == 2 and ".resblocks." in name
            (matrices if hidden else rest).append(parameter)
        decayed = [p for p in rest if p.ndim >= 2]
        plain = [p for p in rest if p.ndim < 2]
        self.muon = Muon(matrices, lr=plan.muon_lr, weight_decay=plan.weight_decay)
        self.adam = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
            lr=plan.adam_lr,
            betas=(0.9, 0.98),
        )

    def train_step(self, batch: SceneBatch) -> dict[str, float]:
        """Its losses before the step."""
        plan, step = self.plan, self.state.position
        for optimizer, peak in ((self.muon, plan.muon_lr), (self.adam, plan.adam_lr)):
            for group in optimizer.param_groups:
                group["lr"] = peak * plan.rate(step)
        losses = self.losses(batch, torch.Generator().manual_seed(plan.seed * 1_000_003 + step))
        weights = {"patch": plan.patch_weight, "text": plan.text_weight, "caption": plan.caption_weight}
        total = losses["scene"] + sum(weight * losses[name] for name, weight in weights.items())
        self.adam.zero_grad()
        self.muon.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_([p for g in self.adam.param_groups for p in g["params"]], 1.0)
        self.adam.step()
        self.muon.step()
        self.losses.clamp_scales()
        self.state.position += 1
        return {name: value.item() for name, value in losses.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "losses": self.losses.state_dict(), "adam": self.adam.state_dict(), "muon": self.muon.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses.load_state_dict(state_dict["losses"])
        self.adam.load_state_dict(state_dict["adam"])
        self.muon.load_state_dict(state_dict["muon"])


def made_ahead(batches: SceneBatches) -> Iterable[SceneBatch]:
    """A `Load` in a process of its own, some batches ahead; a forked one would inherit torch's threads."""
    return DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4, multiprocessing_context="spawn")


def train(
    plan: TrainingPlan, config: dict[str, Any], folder: Path, *, save_every_s: float = _SAVE_EVERY_S,
    load: Load = made_ahead,
) -> Trainer:  # fmt: skip
    """Train to the plan's end, from the folder's state where there is one. config: an open_clip model config.

    Raises SpecError when the folder holds another training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = TrainingState.of(folder, KIND, {"plan": asdict(plan), "model": config})
    trainer = Trainer(plan, config, state)
    state.restore(trainer, folder)
    if state.position:
        log.info("resumed at step %d of %d", state.position, plan.steps)
    vision = config["vision_cfg"]
    grid, patch = vision["image_size"] // vision["patch_size"], vision["patch_size"]
    batches = SceneBatches(plan, grid=grid, patch=patch, first_step=state.position)
    started = saved = time.monotonic()
    recent: list[dict[str, float]] = []
    for batch in load(batches):
        recent.append(trainer.train_step(batch))
        is_last = state.position == plan.steps
        if state.position % _LOG_EVERY == 0 or is_last:
            means = {name: sum(losses[name] for losses in recent) / len(recent) for name in recent[0]}
            recent = []
            state.history.append({"step": state.position, **means})
            told = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            log.info("step %d/%d %s, %.0f s", state.position, plan.steps, told, time.monotonic() - started)
        if time.monotonic() - saved > save_every_s or is_last:
            state.save(trainer, folder)
            saved = time.monotonic()
    return trainer
