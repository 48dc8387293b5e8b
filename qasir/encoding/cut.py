"""Stage 1: cuts long videos into segments, so that they decode in parallel."""

import pyarrow as pa

from qasir.encoding.alarm import Alarm
from qasir.encoding.memory import MemoryLimit
from qasir.encoding.options import SEGMENT_BYTES, SEGMENT_S
from qasir.encoding.rows import SEGMENT_SCHEMA
from qasir.video.container import Video

_MAX_SEGMENTS = 512
_TRIED_AT = (0.25, 0.5, 0.75)


def cut_videos(
    plan: pa.Table,
    *,
    segment_s: int = SEGMENT_S,
    segment_bytes: int = SEGMENT_BYTES,
    time_limit_s: float | None = None,
    memory_limit: int | None = None,
) -> pa.Table:
    """One row a segment: a stretch of whole seconds; the last one of a video runs to its true end, whatever the header
    says.

    A video that cannot be opened or sought exactly is one segment; what is wrong with it shows when that is decoded.
    """
    rows = []
    with Alarm(time_limit_s) as alarm, MemoryLimit(memory_limit) as memory:
        for row in plan.to_pylist():
            alarm.set()
            memory.renew()
            starts, stated_s = [0], 0.0
            if row["problem"] is None:
                most = max(1, row["size_bytes"] // max(1, segment_bytes))
                starts, stated_s = _starts(row["uri"], segment_s, most=most)
            for segment, (start, stop) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
                cut = {"segment": segment, "n_segments": len(starts), "start_s": start, "stop_s": stop}
                rows.append({**row, **cut, "stated_s": stated_s})
    return pa.Table.from_pylist(rows, schema=SEGMENT_SCHEMA)


def _starts(uri: str, segment_s: int, *, most: int) -> tuple[list[int], float]:
    """(where segments start, the stated duration)."""
    try:
        with Video(uri) as video:
            duration_s = video.stated_duration_s or 0.0
            n = min(_MAX_SEGMENTS, most, max(1, round(duration_s / segment_s)))
            if n > 1 and not video.seeks_exactly([duration_s * share for share in _TRIED_AT]):
                return [0], duration_s  # every segment would decode all that comes before it
    except Exception:  # a damaged file may raise anything here; the decoding stage, which meets it too, reports it
        return [0], 0.0
    return [i * max(segment_s, int(duration_s / n)) for i in range(n)], duration_s
