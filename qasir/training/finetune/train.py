"""Trains the modules: an epoch over batches, a validation, and the state that goes from one epoch to the next."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qasir.errors import SpecError
from qasir.evaluation.metrics import summarise, target_ranks
from qasir.retrieval.modules import Architecture, FineTuned
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.scoring import score
from qasir.retrieval.vectors import Features
from qasir.training.finetune.objective import Batch, Loss, Objective

_WARM_UP_EPOCHS = 1.0
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Settings:
    """How to train. Learning rate: AdamW, warmed up over an epoch, then a cosine to zero at the last.

    patience: how many epochs without a better validation SumR end the training.
    """

    recipe: Recipe = field(default_factory=Recipe)
    architecture: Architecture = field(default_factory=Architecture)
    epochs: int = 8
    batch_size: int = 128
    lr: float = 5e-4
    weight_decay: float = 0.01
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.patience < 1:
            raise SpecError("epochs and patience must be 1 or more")
        if not (self.lr > 0 and math.isfinite(self.lr)) or self.weight_decay < 0:
            raise SpecError("the learning rate must be above 0, and the weight decay not below it")

    def describe(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Validation:
    """Queries against videos that were not trained on. texts (Q, D); target (Q,) the number of each query's video."""

    texts: NDArray[np.float32]
    features: Features
    target: NDArray[np.int64]

    def metrics(self, model: FineTuned, recipe: Recipe) -> dict[str, float]:
        """Those of `qasir.evaluation.metrics.summarise`, scored as the recipe says."""
        values = score(model.query_vectors(self.texts), model.video_vectors(self.features), recipe.scoring)
        return summarise(target_ranks(values, self.target))


class Training:
    """An objective, its optimiser and how far it is. The same seed and batches give the same model on one kind of CPU."""

    def __init__(self, dim: int, settings: Settings, n_batches: int, device: str = "cpu") -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.device = torch.device(device)
        self.objective = Objective(FineTuned(dim, settings.architecture), settings.recipe).to(self.device)
        self.optimizer = torch.optim.AdamW(_groups(self.objective, settings.weight_decay), lr=settings.lr)
        self.n_batches = n_batches
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def model(self) -> FineTuned:
        return self.objective.model

    @property
    def is_over(self) -> bool:
        if self.epoch >= self.settings.epochs:
            return True
        return self.best is not None and self.epoch - self.best["epoch"] >= self.settings.patience

    def run_epoch(
        self, batches: Iterable[Batch], forward: nn.Module | None = None, *, rank: int = 0
    ) -> dict[str, float]:
        """One pass; returns the mean loss and its parts. forward: what calls the objective, when workers share gradients."""
        call = forward or self.objective
        seed = int(np.random.default_rng([self.settings.seed, self.epoch, rank]).integers(2**31))
        torch.manual_seed(seed)  # dropout; an epoch that is run again after a kill is the same one
        generator = torch.Generator().manual_seed(seed)
        call.train()
        sums: dict[str, float] = {}
        done = 0
        for batch in batches:
            rate = self._rate(self.epoch + done / self.n_batches)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            loss: Loss = call(batch.to(self.device), epoch=self.epoch, generator=generator)
            loss.total.backward()
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), _LARGEST_GRADIENT)
            self.optimizer.step()
            done += 1
            for name, value in {"loss": loss.total.detach(), **loss.parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / max(1, done) for name, value in sums.items()}

    def finish_epoch(self, losses: dict[str, float], metrics: dict[str, float], seconds: float) -> dict[str, Any]:
        """Record the epoch just run; keep its weights if it is the best by SumR."""
        self.epoch += 1
        record = {"epoch": self.epoch, **losses, **metrics, "seconds": seconds}
        self.history.append(record)
        if self.best is None or metrics["SumR"] > self.best["SumR"]:
            self.best = record
            self.best_weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        return record

    def _rate(self, epoch: float) -> float:
        warm = min(1.0, (epoch + 1 / self.n_batches) / _WARM_UP_EPOCHS)
        return self.settings.lr * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, epoch / self.settings.epochs)))

    def state(self) -> dict[str, Any]:
        """Everything that going on needs."""
        return {
            "settings": self.settings.describe(), "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(), "epoch": self.epoch, "history": self.history, "best": self.best,
            "best_weights": self.best_weights,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history = state["epoch"], state["history"]
        self.best, self.best_weights = state["best"], state["best_weights"]


def seconds_left(history: Sequence[dict[str, Any]], epochs: int) -> float:
    """At most: if no epoch ends it early."""
    timed = [record["seconds"] for record in history if record["epoch"] > 0]
    return (epochs - len(timed)) * (sum(timed) / len(timed)) if timed else math.nan


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, biases, norms and scales do not."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
