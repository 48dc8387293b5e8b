"""Fine-tunes: as a plain loop in this process, or as one of several workers that share gradients."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qasir.training.epochs import OnEpoch, run_epochs
from qasir.training.finetune.checkpoint_writing import save_checkpoint
from qasir.training.finetune.examples import Read, batches_of, load_here
from qasir.training.finetune.fine_tuning import FineTuning
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.task import Task
from qasir.training.state import TrainingState

KIND = "fine-tuning"


@dataclass(frozen=True)
class Place:
    """Which of how many workers this is, and on which device; wrapped: makes a module's gradients those of all of
    them."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    wrapped: Callable[[nn.Module], nn.Module] = lambda module: module


ALONE = Place()


def finetune(task: Task, folder: Path, *, on_epoch: OnEpoch = lambda record: None) -> dict[str, Any]:
    """Train here, and leave the best checkpoint in `folder`; a training that was killed there goes on after its last
    epoch.

    on_epoch gets every epoch's record, the first being zero-shot (epoch 0). Returns what `result` says. Raises
    SpecError when the folder holds another training.
    """
    since = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    return result(fit(task, folder, on_epoch=on_epoch), time.monotonic() - since)


def fit(
    task: Task, folder: Path, read: Read | None = None, place: Place = ALONE, on_epoch: OnEpoch = lambda record: None
) -> TrainingState:
    """One worker's share; the first one validates, tells, and writes the checkpoint and the state after each epoch.

    read: how batches' videos are read; here, one batch after another, without it.
    """
    state = TrainingState.of(folder, KIND, task.asked)
    worker = _Worker(task, state, read or partial(load_here, source=task.source), place)
    state.restore(worker, folder)
    is_first = place.rank == 0
    run_epochs(worker, folder if is_first else None, on_epoch if is_first else lambda record: None)
    return state


def is_over(state: TrainingState, settings: Settings) -> bool:
    """After all epochs, or too many without a better one."""
    waited = state.best is not None and state.position - state.best["epoch"] >= settings.patience
    return state.position >= settings.epochs or waited


def result(state: TrainingState, seconds: float) -> dict[str, Any]:
    """{best, zero_shot, history, epochs, parameters, seconds}."""
    return {
        "best": state.best, "zero_shot": state.history[0], "history": state.history, "epochs": state.position,
        "parameters": sum(value.numel() for value in state.best_weights.values()), "seconds": seconds,
    }  # fmt: skip


class _Worker:
    """What `run_epochs` runs."""

    def __init__(self, task: Task, state: TrainingState, read: Read, place: Place) -> None:
        self.task, self.state, self.place = task, state, place
        self._read = read
        n_batches = len(self._batches(0))
        self._training = FineTuning(task.spec.embedding_dim, task.settings, n_batches, place.device)
        self._forward = place.wrapped(self._training.objective)

    @property
    def is_over(self) -> bool:
        return is_over(self.state, self.task.settings)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        return self._training.model.state_dict()

    def start(self) -> dict[str, Any]:
        return {"loss": None, **self._validated()}

    def run_epoch(self) -> dict[str, Any]:
        epoch = self.state.position
        batches = batches_of(self.task.pairs, self._batches(epoch), self._read)
        losses = self._training.run_epoch(batches, epoch, forward=self._forward, rank=self.place.rank)
        return {**losses, **self._validated()}

    def saved(self) -> None:
        pass

    def export(self, folder: Path) -> None:
        pairs = self.task.pairs
        trained = {"queries": len(pairs.video), "videos": pairs.n_videos, **self.state.asked}
        save_checkpoint(folder, self.state, self.task.settings, self.task.spec, trained)

    def state_dict(self) -> dict[str, Any]:
        return self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._training.load_state_dict(state_dict)

    def _batches(self, epoch: int) -> Any:
        task, place = self.task, self.place
        return task.pairs.batches(task.batch_size, task.settings.seed, epoch, rank=place.rank, world=place.world)

    def _validated(self) -> dict[str, float]:
        """The first worker's metrics, which all have, so that they stop at the same epoch."""
        box: list[Any] = [None]
        if self.place.rank == 0:
            box = [self.task.validation.metrics(self._training.model, self.task.settings.recipe)]
        if self.place.world > 1:
            torch.distributed.broadcast_object_list(box, src=0)
        return box[0]
