"""Runs a training by epochs, from where its state is, and leaves what is best."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from qasir.files.whole import write_whole
from qasir.training.state import Stateful, TrainingState

HISTORY = "history.json"
"""One record an epoch; epoch 0 is before training."""

OnEpoch = Callable[[dict[str, Any]], None]


class EpochTraining(Stateful, Protocol):
    """What `run_epochs` asks of a training. All numbers of an epoch go into its record; SumR says which is best."""

    state: TrainingState

    @property
    def is_over(self) -> bool: ...

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """What is trained, as it is now."""

    def start(self) -> dict[str, Any]:
        """Whatever comes before the first epoch; returns the validation of what is not trained yet."""

    def run_epoch(self) -> dict[str, Any]:
        """Train for an epoch and validate; returns losses and metrics."""

    def saved(self) -> None:
        """Told when the state has been written: what only an older one needs may go."""

    def export(self, folder: Path) -> None:
        """Write the best so far."""


def run_epochs(training: EpochTraining, folder: Path | None, on_epoch: OnEpoch) -> None:
    """Train to the end, from the state's position on. folder: None in a process that writes nothing.

    on_epoch gets every epoch's record, those before a kill and that before training (epoch 0) too. A kill at any moment
    loses the epoch that was running, and nothing else.
    """
    state = training.state
    if state.parts is None:
        state.history.append({"epoch": 0, **training.start(), "seconds": 0.0})
    for record in state.history:
        on_epoch(record)
    while not training.is_over:
        since = time.monotonic()
        facts = training.run_epoch()
        record = state.finish_epoch({**facts, "seconds": time.monotonic() - since}, training.weights)
        if folder is not None:
            state.save(training, folder)
            training.saved()
            _write_history(state, folder)
            if state.best is record:
                training.export(folder)
        on_epoch(record)
    if folder is not None:  # once more: a kill may have come between the state and these
        _write_history(state, folder)
        training.export(folder)


def _write_history(state: TrainingState, folder: Path) -> None:
    write_whole(folder / HISTORY, json.dumps(state.history, indent=2) + "\n")


def seconds_left(history: Sequence[dict[str, Any]], epochs: int) -> float:
    """At most: if no epoch ends it early."""
    timed = [record["seconds"] for record in history if record["epoch"] > 0]
    return (epochs - len(timed)) * (sum(timed) / len(timed)) if timed else math.nan
