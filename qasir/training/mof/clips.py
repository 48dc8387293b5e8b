"""Stage: the evenly spaced frames, or super images, of videos, as rows of the table of clips."""

from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.errors import VideoError
from qasir.video.container import Video
from qasir.video.tile import Tiling, tile

CLIPS_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("frames", pa.large_binary(), nullable=False),  # uint8 (n_frames, S, S, 3)
    ]
)
READ_SCHEMA = pa.schema([*CLIPS_SCHEMA, pa.field("n_there", pa.int32()), pa.field("error", pa.string())])


def spread(n: int, k: int) -> NDArray[np.int64]:
    """k places in 0 .. n - 1, the middles of as many equal stretches; where n < k some come twice."""
    return ((np.arange(k) + 0.5) * n / k).astype(np.int64)


def read_clips(videos: pa.Table, tiling: Tiling, n_frames: int) -> pa.Table:
    """videos: rows of video_id and uri. Returns `READ_SCHEMA` rows: at most n_frames super images of each video
    (frames, for grid 1), evenly spaced over all of its `n_there`; or an error for a video that cannot be read."""
    nothing = {"n_frames": 0, "frames": b"", "n_there": 0}
    rows = [
        {"video_id": row["video_id"], **nothing, **_read(row["uri"], tiling, n_frames)} for row in videos.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=READ_SCHEMA)


def _read(uri: str, tiling: Tiling, n_frames: int) -> dict[str, Any]:
    try:
        images = [image.pixels for image in tile(uri, _fast_enough(uri, tiling, n_frames))]
    except VideoError as error:
        return {"error": f"{error.kind}: {error}"}
    chosen = np.unique(spread(len(images), n_frames))
    return {
        "n_frames": len(chosen),
        "frames": np.stack([images[i] for i in chosen]).tobytes(),
        "n_there": len(images),
    }


def _fast_enough(uri: str, tiling: Tiling, n_frames: int) -> Tiling:
    """Samples a short video more often, so that it has as many super images as asked for."""
    with Video(uri) as video:
        duration_s = video.stated_duration_s
    if not duration_s:
        return tiling
    needed = Fraction(n_frames * tiling.per_image) / Fraction(duration_s).limit_denominator(1000)
    return Tiling(max(tiling.rate, needed), tiling.grid, tiling.image_size, tiling.fit)
