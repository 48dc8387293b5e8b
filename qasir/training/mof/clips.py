"""Stage: evenly spread ones of the sampled frames, or super images, of videos, as rows of the table of clips."""

import logging
from dataclasses import replace
from fractions import Fraction
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.encoding.alarm import Alarm
from qasir.encoding.memory import MemoryLimit
from qasir.encoding.schedules import scheduled
from qasir.errors import VideoError
from qasir.video.limits import out_of_memory
from qasir.video.open_video import SampledVideo, open_video
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


_MOST_A_SECOND = Fraction(240)
"""What a header that states next to no time cannot raise the rate above."""


def spread(n: int, k: int) -> NDArray[np.int64]:
    """k places in 0 .. n - 1, the middles of as many equal stretches; where n < k some come twice."""
    return ((np.arange(k) + 0.5) * n / k).astype(np.int64)


def read_clips(
    videos: pa.Table,
    tiling: Tiling,
    n_frames: int,
    *,
    time_limit_s: float | None = None,
    memory_limit: int | None = None,
) -> pa.Table:
    """videos: rows of video_id and uri. Returns `READ_SCHEMA` rows: at most n_frames super images of each video
    (frames, for grid 1), evenly spaced over all of its `n_there`; or an error for a video that cannot be read.

    time_limit_s: kills this process when a decoder makes no progress for so long. memory_limit: bytes that reading a
    video may take; one that needs more is "too_large".
    """
    rows = []
    with Alarm(time_limit_s) as alarm, MemoryLimit(memory_limit) as memory:
        for row in videos.to_pylist():
            memory.renew()
            rows.append(_read(row["video_id"], row["uri"], tiling, n_frames, alarm))
    return pa.concat_tables([READ_SCHEMA.empty_table(), *rows])


def failure(video_id: str, kind: str, message: str) -> pa.Table:
    """The `READ_SCHEMA` row of a video that cannot be read. kind: one of `qasir.errors.ERROR_KINDS`."""
    return _row(video_id, error=f"{kind}: {message}")


def _read(video_id: str, uri: str, tiling: Tiling, n_frames: int, alarm: Alarm) -> pa.Table:
    alarm.set()
    n_there = n_bytes = 0
    try:
        # How many there are shows at the end, and a long video's do not fit into memory.
        with open_video(uri, alive=alarm.set) as video, TemporaryFile() as kept:
            often = _fast_enough(video, tiling, n_frames)
            tiler = Tiler(Wanted(often), video.pixel_aspect, scheduled(often, [], video, allow_partial=False))
            for _, image in super_images(video, [tiler]):
                n_bytes = kept.write(image.pixels.tobytes())
                n_there += 1
            chosen = np.unique(spread(n_there, n_frames))
            frames = b"".join(_at(kept, int(i) * n_bytes, n_bytes) for i in chosen)
    except VideoError as error:
        return failure(video_id, error.kind, str(error))
    except MemoryError:
        return failure(video_id, "too_large", str(out_of_memory()))
    except Exception as error:  # whatever a damaged file makes a decoder raise, it is that file's failure alone
        log.exception("%s: unexpected error", uri)
        return failure(video_id, "decode", f"{type(error).__name__}: {error}")
    return _row(video_id, n_frames=len(chosen), frames=frames, n_there=n_there)


def _at(file: IO[bytes], start: int, n: int) -> bytes:
    file.seek(start)
    return file.read(n)


def _row(video_id: str, **values: Any) -> pa.Table:
    row = {"video_id": video_id, "n_frames": 0, "frames": b"", "n_there": 0, **values}
    return pa.Table.from_pylist([row], schema=READ_SCHEMA)


def _fast_enough(video: SampledVideo, tiling: Tiling, n_frames: int) -> Tiling:
    """Samples a short video more often, so that it has as many super images as asked for."""
    stated_s = Fraction(video.stated_duration_s or 0).limit_denominator(1000)
    if not stated_s:
        return tiling
    needed = min(_MOST_A_SECOND, Fraction(n_frames * tiling.per_image) / stated_s)
    max_gap = None if tiling.max_gap is None else min(tiling.max_gap, 1 / needed)
    return replace(tiling, rate=max(tiling.rate, needed), max_gap=max_gap)
