"""The stored picture of a second of a video: a cell of its super image."""

import numpy as np
from numpy.typing import NDArray

from qasir.app.catalogue import StoredVideo
from qasir.app.thumbnails import cell_of
from qasir.index.cell_times import TIMES, cell_times
from qasir.index.snapshot import Snapshot

_ROUNDING_S = 1e-6


def stored_picture(snapshot: Snapshot, video: StoredVideo, at_s: float) -> bytes | None:
    """The JPEG of the cell that is on display at a time, or of the last one before it; None where none is stored."""
    spec, ids = snapshot.spec, [video.video_id]
    numbers = snapshot.rows().of(ids) if spec.thumbnails else []
    if not numbers:
        return None
    at = _last(snapshot.super_images(["start_s"], video_ids=ids)["start_s"].to_numpy(), at_s)
    row = snapshot.take([numbers[at]], ["video_id", "position", *TIMES, "thumbnail"])
    cell = _last(cell_times(row, spec)[0], at_s)
    picture = row["thumbnail"][0].as_py()
    aspect = video.width / video.height if video.width and video.height else None
    return cell_of(picture, spec.grid, cell, fit=spec.fit, aspect=aspect)


def _last(start_s: NDArray[np.float64], at_s: float) -> int:
    """The number of the last one that begins at a time or before, of the first where none does."""
    return max(0, int(np.searchsorted(start_s, at_s + _ROUNDING_S, side="right")) - 1)
