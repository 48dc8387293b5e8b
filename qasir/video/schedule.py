"""Which frames are sampled where keyframes are: times first, from what the packets of a video say, before anything is
decoded.

All times are whole ticks of the stream's time base since the first displayed frame, so that they compare exactly.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise


@dataclass(frozen=True)
class KeyframeRule:
    """Keyframes at most `rate` a second, and decoded frames between two that are more than `max_gap` seconds apart."""

    rate: Fraction
    max_gap: Fraction


@dataclass(frozen=True)
class Timeline:
    """The frames of a video by their times.

    origin: the timestamp of the first displayed frame. shown: when frames begin to be displayed, ascending, 0 the
    first. keys: when keyframes are, ascending. hidden: the same of keyframes that are decoded and not shown, as those
    that an edit list leaves out, below 0 too. end: when the last frame ends. by_packets: whether packets say all this,
    or only decoding did.
    """

    time_base: Fraction
    origin: int
    shown: Sequence[int]
    keys: Sequence[int]
    end: int
    hidden: Sequence[int] = ()
    by_packets: bool = True

    def schedule(self, rule: KeyframeRule) -> "Schedule":
        """All samples of the video.

        The first displayed frame counts as a keyframe. The first keyframe in each [k / rate, (k + 1) / rate) is a
        sample. Where one is further than max_gap from the next, or the last one from the end of the video, frames
        between them are too: those on display at the ceil(distance / max_gap) - 1 times that part the distance evenly,
        each frame once.
        """
        ticks = list(self._filled(self._thinned(rule.rate), rule.max_gap))
        starts = list(self._starts(ticks))
        return Schedule(self.time_base, self.origin, 0, ticks, starts, self.end, self.by_packets)

    def _thinned(self, rate: Fraction) -> list[int]:
        """The first of the keyframes in each period of the rate."""
        period = 1 / (rate * self.time_base)
        num, den = period.numerator, period.denominator
        taken, last = [0], 0
        for tick in self.keys[bisect_right(self.keys, 0) :]:
            if tick * den // num > last:
                last = tick * den // num
                taken.append(tick)
        return taken

    def _filled(self, taken: list[int], max_gap: Fraction) -> Iterator[int]:
        most = max_gap / self.time_base
        for at, until in pairwise([*taken, self.end]):
            yield at
            if until - at <= most:
                continue
            parts, last = -(-(until - at) * most.denominator // most.numerator), at
            for i in range(1, parts):
                tick = self.shown[bisect_right(self.shown, at + (until - at) * i // parts) - 1]
                if tick > last:
                    yield tick
                    last = tick

    def _starts(self, ticks: Sequence[int]) -> Iterator[int]:
        """Where decoding begins, to see the frame at each of `ticks`: the last keyframe until then. The first displayed
        frame where there is none, as if it were one: whoever begins there finds out that it is not."""
        keys = sorted([*self.keys, *self.hidden]) if self.hidden else self.keys
        for tick in ticks:
            at = bisect_right(keys, tick)
            yield keys[at - 1] if at else 0


@dataclass(frozen=True)
class Schedule:
    """Samples number `first` and up of a video: their times, and for each that of the keyframe to decode from.

    end: when the video ends, None where more samples follow than are here.
    """

    time_base: Fraction
    origin: int
    first: int
    ticks: Sequence[int]
    starts: Sequence[int]
    end: int | None
    by_packets: bool = True

    @property
    def end_s(self) -> float | None:
        return None if self.end is None else float(self.end * self.time_base)

    def index_at(self, seconds: Fraction) -> int:
        """The number of the first sample at or after `seconds`, as far as they are here."""
        ahead = seconds / self.time_base
        return self.first + bisect_left(self.ticks, -(-ahead.numerator // ahead.denominator))

    def part(self, start: int, stop: int | None = None) -> "Schedule":
        """Samples start .. stop - 1 alone; stop None: to the end."""
        low = max(0, start - self.first)
        high = len(self.ticks) if stop is None else max(low, stop - self.first)
        end = self.end if high >= len(self.ticks) else None
        return replace(
            self, first=max(start, self.first), ticks=self.ticks[low:high], starts=self.starts[low:high], end=end
        )


class ScheduleHand:
    """Where a schedule stands while its samples are taken."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._at = 0

    @property
    def origin(self) -> int:
        return self._schedule.origin

    @property
    def index(self) -> int:
        return self._schedule.first + self._at

    @property
    def tick(self) -> int:
        return self._schedule.ticks[self._at]

    @property
    def time_s(self) -> float:
        return float(self.tick * self._schedule.time_base)

    @property
    def next_s(self) -> float | None:
        """When the next sample is; None where there is none."""
        if self._at + 1 == len(self._schedule.ticks):
            return None
        return float(self._schedule.ticks[self._at + 1] * self._schedule.time_base)

    @property
    def done(self) -> bool:
        return self._at >= len(self._schedule.ticks)

    @property
    def to_the_end(self) -> bool:
        return self._schedule.end is not None

    def within(self, tick: int) -> bool:
        """Whether a sample that is not taken yet may depend on the frame that is shown at `tick`."""
        return not self.done and tick >= self._schedule.starts[0]

    def advance(self) -> None:
        self._at += 1

    def next_from(self, tick: int) -> int | None:
        """The first sample not yet taken at or after `tick`."""
        at = bisect_left(self._schedule.ticks, tick, self._at)
        return self._schedule.ticks[at] if at < len(self._schedule.ticks) else None
