"""Keyframe sampling: its times are those of the rule and its frames those that decoding everything gives, however a
video is coded, contained or cut."""

import random
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from qasir.video.container import Clock, Video
from qasir.video.schedule import KeyframeRule
from tests.qasir.video.test_lookahead import KINDS, clip
from tests.videos import read

RULES = [
    KeyframeRule(Fraction(2), Fraction("0.7")),
    KeyframeRule(Fraction(1), Fraction(4)),
    KeyframeRule(Fraction("0.3"), Fraction(7)),
]


def taken(path, clocks, **options):
    """([(clock, index, timestamp, pixels, time, the next one's)], the duration)."""
    with Video(str(path)) as video:
        samples, end = read(video, clocks, **options)
        return [(s.clock, s.index, s.frame.pts, s.frame.to_ndarray().tobytes(), s.time_s, s.next_s)
                for s in sorted(samples, key=lambda s: (s.clock, s.index))], end  # fmt: skip


def schedule(path, rule, **options):
    with Video(str(path)) as video:
        return video.schedule(rule, **options)


def decoded(path):
    """(seconds per tick, [(tick since the first frame, timestamp, keyframe, pixels)], the end) by decoding everything."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        keys = [p.pts for p in container.demux(stream) if p.size and p.is_keyframe]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(f.pts, f.to_ndarray().tobytes(), f.duration) for f in container.decode(stream)]
    first = frames[0][0]
    end = frames[-1][0] - first + (frames[-1][2] or frames[-1][0] - frames[-2][0])
    return stream.time_base, [(pts - first, pts, pts in keys, pixels) for pts, pixels, _ in frames], end


def by_definition(time_base, frames, end, rule):
    """What the rule takes of the frames that decoding everything gives, slowly."""
    periods = {}
    for i, (tick, _, is_key, _) in enumerate(frames):
        if is_key or i == 0:
            periods.setdefault(tick * time_base // (1 / rule.rate), i)
    chosen = sorted(periods.values())
    times = [frames[i][0] * time_base for i in chosen] + [end * time_base]
    numbers = set(chosen)
    for a, b in pairwise(times):
        if b - a > rule.max_gap:
            parts = -(-(b - a) // rule.max_gap)
            for i in range(1, int(parts)):
                numbers.add(max(n for n, f in enumerate(frames) if f[0] * time_base <= a + (b - a) * i / parts))
    return [(0, k, frames[n][1], frames[n][3]) for k, n in enumerate(sorted(numbers))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_those_of_the_rule(tmp_path, kind):
    path = clip(tmp_path, kind)
    time_base, frames, end_tick = decoded(path)
    for rule in RULES:
        got, end = taken(path, [schedule(path, rule)])
        assert [s[:4] for s in got] == by_definition(time_base, frames, end_tick, rule)
        assert end.duration_s == float(end_tick * time_base)
        assert [s[4] for s in got] == [float((s[2] - frames[0][1]) * time_base) for s in got]
        assert [s[5] for s in got] == [*(s[4] for s in got[1:]), None]


@pytest.mark.parametrize("kind", KINDS)
def test_stretches_add_up_to_the_whole(tmp_path, kind):
    path = clip(tmp_path, kind)
    plan = schedule(path, RULES[0])
    whole, end = taken(path, [plan])
    chance = random.Random(kind)
    for _ in range(2):
        cuts = [0, *sorted(chance.sample(range(len(whole) + 3), 3)), None]
        parts = [taken(path, [plan.part(a, b)]) for a, b in pairwise(cuts)]
        assert [s[:5] for part, _ in parts for s in part] == [s[:5] for s in whole]
        assert parts[-1][1] == end


@pytest.mark.parametrize("kind", ["closed GOPs with B-frames", "open GOPs", "intra refresh", "MPEG-2 transport stream"])
def test_schedules_and_clocks_share_one_pass(tmp_path, kind):
    path = clip(tmp_path, kind)
    clocks = [Clock(Fraction(1)), *(schedule(path, rule) for rule in RULES), Clock(Fraction(3), 2, 9)]
    for some in (clocks, clocks[1:4]):
        together, _ = taken(path, some)
        for number, clock in enumerate(some):
            assert [s[1:] for s in together if s[0] == number] == [s[1:] for s in taken(path, [clock])[0]]
