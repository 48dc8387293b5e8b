"""What a decoded segment tells of itself. Imports no Lance, so that decoding workers start fast."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

import pyarrow as pa

from qasir.encoding.rows import REPORT_SCHEMA
from qasir.index.schemas import FAILED

CHANGED = "changed while read"
"""How the message of a failure of kind `io` begins where the file was not, or no more, the one that was listed."""


@dataclass(frozen=True)
class Report:
    """What became of one segment of a video for one index; the segments of a video add up to its row of `videos`.

    duration_s is known only where the segment reached the end of the video, media_offset_s where it read a frame.
    n_sampled and n_super_images count the segment's own, n_new the super images sent on to be encoded. seconds, cpu_s
    and wait_s are what decoding took (`qasir.encoding.stopwatch.Taken`), told once a segment, as are decoder,
    what decoded it ("cpu" or "cuda"), and fallback, why that was not the GPU where one was asked for
    (`qasir.video.hardware.FALLBACKS`). ended: when that was, in seconds since the epoch.
    """

    video_id: str
    uri: str
    size_bytes: int
    fingerprint: str
    status: str
    index: int = 0
    segment: int = 0
    n_segments: int = 1
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    codec: str | None = None
    n_sampled: int = 0
    n_super_images: int = 0
    n_new: int = 0
    decode_errors: int = 0
    error_kind: str | None = None
    error: str | None = None
    recorded_at: datetime | None = None
    media_offset_s: float | None = None
    seconds: float = 0.0
    decoder: str | None = None
    fallback: str | None = None
    cpu_s: float = 0.0
    wait_s: float = 0.0
    ended: float | None = None

    @property
    def failed(self) -> bool:
        return self.status == FAILED

    @property
    def file_changed(self) -> bool:
        return self.error_kind == "io" and (self.error or "").startswith(CHANGED)


def report_rows(reports: Iterable[Report]) -> pa.Table:
    """REPORT_SCHEMA."""
    return pa.Table.from_pylist([asdict(report) for report in reports], schema=REPORT_SCHEMA)


def reports_of(rows: pa.Table) -> Iterator[Report]:
    """The reports of REPORT_SCHEMA rows."""
    for row in rows.to_pylist():
        yield Report(**row)
