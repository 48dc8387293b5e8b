"""Keyframe schedules as they travel with a segment: found out once where a video is cut, and used where its segments
are decoded."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from qasir.index.spec import EncoderSpec
from qasir.video.open_video import SampledVideo
from qasir.video.schedule import KeyframeRule, Schedule, Timeline
from qasir.video.tile import Tiling


def tiling_of(spec: EncoderSpec) -> Tiling:
    """How a video's frames become an index's super images."""
    max_gap = Fraction(str(spec.max_gap_s)) if spec.sampling == "keyframes" else None
    return Tiling(spec.rate, spec.grid, spec.image_size, spec.fit, max_gap, tone_map=spec.tone_map)


def keyframe_rules(specs: Sequence[EncoderSpec]) -> dict[KeyframeRule, int]:
    """{rule: the most samples that a super image holds} of the specs that sample keyframes."""
    rules: dict[KeyframeRule, int] = {}
    for spec in specs:
        if (rule := tiling_of(spec).rule) is not None:
            rules[rule] = max(rules.get(rule, 0), spec.frames_per_super_image)
    return rules


def schedule_rows(
    timeline: Timeline, rules: dict[KeyframeRule, int], starts: Sequence[int]
) -> Iterator[list[dict[str, Any]]]:
    """For each segment, of those that start at these seconds, its `schedules` (`qasir.encoding.rows.SEGMENT_SCHEMA`):
    the samples within it, and those after it that its last super image may need."""
    schedules = {rule: timeline.schedule(rule) for rule in rules}
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        yield [_row(rule, schedule, start, stop, most=rules[rule]) for rule, schedule in schedules.items()]


def _row(rule: KeyframeRule, schedule: Schedule, start: int, stop: int | None, *, most: int) -> dict[str, Any]:
    last = None if stop is None else schedule.index_at(Fraction(stop)) + most + 1
    part = schedule.part(schedule.index_at(Fraction(start)), last)
    return {
        "fps": float(rule.rate), "max_gap_s": float(rule.max_gap), "origin": part.origin, "first": part.first,
        "ticks": part.ticks, "starts": part.starts, "end": part.end,
    }  # fmt: skip


def scheduled(
    tiling: Tiling, rows: Sequence[dict[str, Any]], video: SampledVideo, *, allow_partial: bool
) -> Schedule | None:
    """The schedule of a tiling, None for a uniform one: that which came with the segment, else by reading the video.
    Raises VideoError."""
    if tiling.rule is None:
        return None
    for row in rows:
        if (row["fps"], row["max_gap_s"]) == (float(tiling.rate), float(tiling.rule.max_gap)):
            names = ("origin", "first", "ticks", "starts", "end")
            return Schedule(video.time_base, **{name: row[name] for name in names})
    return video.schedule(tiling.rule, allow_partial=allow_partial)
