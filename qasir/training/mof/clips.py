"""Stage: the evenly spaced frames, or super images, of videos, as rows of the table of clips."""

import logging
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.encoding.alarm import Alarm
from qasir.errors import VideoError
from qasir.video.container import Video
from qasir.video.tile import Tiler, Tiling, Wanted, super_images

log = logging.getLogger(__name__)

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


def read_clips(videos: pa.Table, tiling: Tiling, n_frames: int, *, time_limit_s: float | None = None) -> pa.Table:
    """videos: rows of video_id and uri. Returns `READ_SCHEMA` rows: at most n_frames super images of each video
    (frames, for grid 1), evenly spaced over all of its `n_there`; or an error for a video that cannot be read.

    time_limit_s: kills this process when a decoder makes no progress for so long.
    """
    with Alarm(time_limit_s) as alarm:
        rows = [_read(row["video_id"], row["uri"], tiling, n_frames, alarm) for row in videos.to_pylist()]
    return pa.concat_tables([READ_SCHEMA.empty_table(), *rows])


def failure(video_id: str, kind: str, message: str) -> pa.Table:
    """The `READ_SCHEMA` row of a video that cannot be read. kind: one of `qasir.errors.ERROR_KINDS`."""
    return _row(video_id, error=f"{kind}: {message}")


def _read(video_id: str, uri: str, tiling: Tiling, n_frames: int, alarm: Alarm) -> pa.Table:
    alarm.set()
    try:
        with Video(uri, alive=alarm.set) as video:
            tiler = Tiler(Wanted(_fast_enough(video, tiling, n_frames)), video.pixel_aspect)
            images = [image.pixels for _, image in super_images(video, [tiler])]
        chosen = np.unique(spread(len(images), n_frames))
        frames = np.stack([images[i] for i in chosen]).tobytes()
    except VideoError as error:
        return failure(video_id, error.kind, str(error))
    except Exception as error:  # whatever a damaged file makes a decoder raise, it is that file's failure alone
        log.exception("%s: unexpected error", uri)
        return failure(video_id, "decode", f"{type(error).__name__}: {error}")
    return _row(video_id, n_frames=len(chosen), frames=frames, n_there=len(images))


def _row(video_id: str, **values: Any) -> pa.Table:
    row = {"video_id": video_id, "n_frames": 0, "frames": b"", "n_there": 0, **values}
    return pa.Table.from_pylist([row], schema=READ_SCHEMA)


def _fast_enough(video: Video, tiling: Tiling, n_frames: int) -> Tiling:
    """Samples a short video more often, so that it has as many super images as asked for."""
    if not video.stated_duration_s:
        return tiling
    needed = Fraction(n_frames * tiling.per_image) / Fraction(video.stated_duration_s).limit_denominator(1000)
    return Tiling(max(tiling.rate, needed), tiling.grid, tiling.image_size, tiling.fit)
