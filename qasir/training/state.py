"""The state of a training: what was asked, how far it is, its history and its best. Every training here keeps this one
and goes on from it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from qasir.errors import ModelError, SpecError
from qasir.files.readable import reason
from qasir.files.whole import write_bytes

LAST = "last.pt"


class Stateful(Protocol):
    """What is trained, as torch's own modules and optimisers: everything that going on needs, out and in again."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass
class TrainingState:
    """One file of a folder.

    kind: which training this is; asked: plain values that must be the same for it to go on; position: epochs or batches
    done; history: one record an epoch, or every so many batches; best: the record with the best validation SumR and
    best_weights its weights, where a training validates; parts: the state dict of what is trained, None before the
    first save.
    """

    kind: str
    asked: dict[str, Any]
    position: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, Any] | None = None

    @classmethod
    def of(cls, folder: Path, kind: str, asked: Mapping[str, Any]) -> "TrainingState":
        """That of the folder, or a new one where there is none. asked: may be nested, and is kept flat (`flat`).

        Raises SpecError when the folder holds another training, or one that was asked for differently; ModelError when
        the file cannot be read as a training's state.
        """
        path, new = folder / LAST, cls(kind, flat(asked))
        if not path.is_file():
            return new
        found = _read(path)
        if found.kind != kind:
            raise SpecError(f"{path} is of another training, {found.kind}, not of {kind}: choose another folder")
        before, now = found.asked, new.asked
        changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if changed:
            lines = "\n".join(f"  {name}: {before.get(name)} then, {now.get(name)} now" for name in changed)
            raise SpecError(f"{folder} holds a training with other settings; choose another folder:\n{lines}")
        return found

    def restore(self, trained: Stateful, folder: Path) -> None:
        """Bring what is trained to where this is. Raises ModelError that names the folder's file where they do not
        fit."""
        if self.parts is None:
            return
        try:
            trained.load_state_dict(self.parts)
        except (KeyError, RuntimeError, ValueError, TypeError, OSError) as error:
            raise ModelError(
                f"{folder / LAST} does not fit what is trained ({reason(error)}): remove it to start anew"
            ) from error

    def save(self, trained: Stateful, folder: Path) -> None:
        """Replace the folder's state by this one, with what is trained as it is now."""
        self.parts = trained.state_dict()
        out = io.BytesIO()
        torch.save({one.name: getattr(self, one.name) for one in fields(self)}, out)
        write_bytes(folder / LAST, out.getvalue())

    def finish_epoch(self, record: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Note an epoch that has been run and validated; its weights are kept if its SumR is the best so far."""
        self.position += 1
        noted = {"epoch": self.position, **record}
        self.history.append(noted)
        if self.best is None or noted["SumR"] > self.best["SumR"]:
            self.best = noted
            self.best_weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
        return noted


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of mappings within mappings by names with dots between."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        inner = {f"{name}.{key}": v for key, v in flat(value).items()} if isinstance(value, Mapping) else {name: value}
        out |= inner
    return out


def _read(path: Path) -> TrainingState:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        state = TrainingState(**stored)
        if not isinstance(state.asked, dict) or not isinstance(state.history, list):
            raise TypeError("another shape")
        return state
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ModelError(
            f"{path} cannot be read as a training's state ({type(error).__name__}): remove it to start anew"
        ) from error
