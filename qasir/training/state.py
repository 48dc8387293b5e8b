"""The state that a killed training goes on from: one file beside what it was asked for."""

import io
from pathlib import Path
from typing import Any

import torch

from qasir.errors import ModelError, SpecError
from qasir.files.whole import write_bytes

LAST = "last.pt"


def save_state(folder: Path, asked: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace the folder's state. asked: what must be the same for a training to go on (plain values)."""
    out = io.BytesIO()
    torch.save({"asked": asked, "state": state}, out)
    write_bytes(folder / LAST, out.getvalue())


def load_state(folder: Path) -> dict[str, Any] | None:
    """The state, or None when there is none. Raises ModelError when it cannot be read."""
    stored = _load(folder)
    return None if stored is None else stored["state"]


def check_same(folder: Path, asked: dict[str, Any]) -> None:
    """Raises SpecError when the folder holds a training that was asked for differently, ModelError for a damaged one."""
    stored = _load(folder)
    if stored is None:
        return
    before = stored["asked"]
    changed = [name for name in sorted({*before, *asked}) if before.get(name) != asked.get(name)]
    if changed:
        lines = [f"  {name}: {before.get(name)} then, {asked.get(name)} now" for name in changed]
        raise SpecError(f"{folder} holds a training with other settings; name another --output:\n" + "\n".join(lines))


def _load(folder: Path) -> dict[str, Any] | None:
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return {"asked": stored["asked"], "state": stored["state"]}
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ModelError(f"{path} cannot be read ({type(error).__name__}): remove it to start anew") from error
