"""The stored picture of a second of a video: a cell of its super image."""

import numpy as np

from qasir.app.catalogue import StoredVideo
from qasir.app.thumbnails import cell_of
from qasir.index.snapshot import Snapshot

_ROUNDING = 1e-6


def stored_picture(snapshot: Snapshot, video: StoredVideo, at_s: float) -> bytes | None:
    """The JPEG of the cell that is on display at a time, or of the last one before it; None where none is stored."""
    spec, ids = snapshot.spec, [video.video_id]
    numbers = snapshot.rows().of(ids) if spec.thumbnails else []
    if not numbers:
        return None
    spans = snapshot.super_images(["start_s", "end_s"], video_ids=ids)
    start, end = spans["start_s"].to_numpy(), spans["end_s"].to_numpy()
    at = max(0, int(np.searchsorted(start, at_s + _ROUNDING, side="right")) - 1)
    n_cells = max(1, int(np.ceil((end[at] - start[at]) * spec.fps - _ROUNDING)))
    cell = int(np.clip((at_s - start[at]) * spec.fps + _ROUNDING, 0, min(n_cells, spec.frames_per_super_image) - 1))
    picture = snapshot.images_dataset.take([numbers[at]], columns=["thumbnail"])["thumbnail"][0].as_py()
    aspect = video.width / video.height if video.width and video.height else None
    return cell_of(picture, spec.grid, cell, fit=spec.fit, aspect=aspect)
