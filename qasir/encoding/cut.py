"""Stage 1: cuts long videos into segments, so that they decode in parallel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from qasir.encoding.alarm import Alarm
from qasir.encoding.memory import MemoryLimit
from qasir.encoding.options import SEGMENT_BYTES, SEGMENT_S
from qasir.encoding.rows import SEGMENT_SCHEMA
from qasir.encoding.schedules import keyframe_rules, schedule_rows
from qasir.files.uris import is_remote
from qasir.index.spec import EncoderSpec
from qasir.video.lookahead import Inexact
from qasir.video.open_video import open_video
from qasir.video.schedule import KeyframeRule

_MAX_SEGMENTS = 512
_TRIED_AT = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class _Cut:
    """How a video is cut: where segments start, in seconds, the stated duration, and each segment's schedules."""

    starts: list[int]
    stated_s: float
    schedules: list[list[dict[str, Any]]]


def cut_videos(
    plan: pa.Table,
    specs: Sequence[EncoderSpec] = (),
    *,
    segment_s: int = SEGMENT_S,
    segment_bytes: int = SEGMENT_BYTES,
    time_limit_s: float | None = None,
    memory_limit: int | None = None,
) -> pa.Table:
    """One row a segment: a stretch of whole seconds; the last one of a video runs to its true end, whatever the header
    says.

    A video that cannot be opened or sought exactly is one segment; what is wrong with it shows when that is decoded.
    Where specs sample keyframes, a video of several segments is read once, for the times of its samples, which depend
    on all that comes before; one on an object store, where that takes as long as decoding, is one segment.
    """
    rows = []
    rules = keyframe_rules(specs)
    with Alarm(time_limit_s) as alarm, MemoryLimit(memory_limit) as memory:
        for row in plan.to_pylist():
            alarm.set()
            memory.renew()
            cut = _Cut([0], 0.0, [[]])
            if row["problem"] is None:
                most = max(1, row["size_bytes"] // max(1, segment_bytes))
                cut = _cut(row["uri"], rules, segment_s, most=most, alive=alarm.set)
            stops = [*cut.starts[1:], None]
            for segment, (start, stop, schedules) in enumerate(zip(cut.starts, stops, cut.schedules, strict=True)):
                part = {"segment": segment, "n_segments": len(stops), "start_s": start, "stop_s": stop}
                rows.append({**row, **part, "stated_s": cut.stated_s, "schedules": schedules})
    return pa.Table.from_pylist(rows, schema=SEGMENT_SCHEMA)


def _cut(uri: str, rules: dict[KeyframeRule, int], segment_s: int, *, most: int, alive: Callable[[], None]) -> _Cut:
    try:
        with open_video(uri, alive=alive) as video:
            duration_s = video.stated_duration_s or 0.0
            n = min(_MAX_SEGMENTS, most, max(1, round(duration_s / segment_s)))
            whole = _Cut([0], duration_s, [[]])
            if n == 1 or (rules and is_remote(uri)):
                return whole
            if not video.seeks_exactly([duration_s * share for share in _TRIED_AT]):
                return whole  # every segment would decode all that comes before it
            starts = [i * max(segment_s, int(duration_s / n)) for i in range(n)]
            if not rules:
                return _Cut(starts, duration_s, [[]] * n)
            try:
                timeline = video.timeline()
            except Inexact:
                return whole
            return _Cut(starts, duration_s, list(schedule_rows(timeline, rules, starts)))
    except Exception:  # a damaged file may raise anything here; the decoding stage, which meets it too, reports it
        return _Cut([0], 0.0, [[]])
