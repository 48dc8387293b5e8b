"""Fine-tuning as such: the modules with their optimiser, and a pass over batches."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from qasir.retrieval.modules import FineTuned
from qasir.training.finetune.objective import Batch, Loss, Objective
from qasir.training.finetune.settings import Settings

_WARM_UP_EPOCHS = 1.0
_LARGEST_GRADIENT = 1.0


class FineTuning:
    """An objective and its optimiser. The same seed and batches give the same model on one kind of CPU."""

    def __init__(self, dim: int, settings: Settings, n_batches: int, device: str = "cpu") -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.device = torch.device(device)
        self.objective = Objective(FineTuned(dim, settings.architecture), settings.recipe).to(self.device)
        self.optimizer = torch.optim.AdamW(_groups(self.objective, settings.weight_decay), lr=settings.lr)
        self.n_batches = n_batches

    @property
    def model(self) -> FineTuned:
        return self.objective.model

    def run_epoch(
        self, batches: Iterable[Batch], epoch: int, *, forward: nn.Module | None = None, rank: int = 0
    ) -> dict[str, float]:
        """One pass, the first being epoch 0; returns the mean loss and its parts. forward: what calls the objective,
        where workers share gradients; rank: this worker's number among them."""
        call = forward or self.objective
        seed = int(np.random.default_rng([self.settings.seed, epoch, rank]).integers(2**31))
        torch.manual_seed(seed)  # dropout; an epoch that is run again after a kill is the same one
        generator = torch.Generator().manual_seed(seed)
        call.train()
        sums: dict[str, float] = {}
        done = 0
        for batch in batches:
            rate = self._rate(epoch + done / self.n_batches)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            loss: Loss = call(batch.to(self.device), epoch=epoch, generator=generator)
            loss.total.backward()
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), _LARGEST_GRADIENT)
            self.optimizer.step()
            done += 1
            for name, value in {"loss": loss.total.detach(), **loss.parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / max(1, done) for name, value in sums.items()}

    def _rate(self, epoch: float) -> float:
        warm = min(1.0, (epoch + 1 / self.n_batches) / _WARM_UP_EPOCHS)
        return self.settings.lr * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, epoch / self.settings.epochs)))

    def state_dict(self) -> dict[str, Any]:
        return {"objective": self.objective.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.objective.load_state_dict(state_dict["objective"])
        self.optimizer.load_state_dict(state_dict["optimizer"])


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, biases, norms and scales do not."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
