"""Keyframe sampling: its times are those of the rule and its frames those that decoding everything gives, however a
video is coded, contained or cut."""

import random
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from qasir.errors import VideoError
from qasir.video.container import Clock, Video
from qasir.video.schedule import KeyframeRule
from qasir.video.scheduled import ScheduledFrames
from tests.qasir.video.test_lookahead import KINDS, clip
from tests.videos import (
    break_frame,
    hide_keyframe,
    mark_all_keyframes,
    mark_one_keyframe,
    read,
    trim,
    write_edits,
    write_film,
    write_sounding,
    write_video,
)

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
    """(seconds per tick, [(tick since the first, timestamp, keyframe, pixels)], the end), all decoded."""
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


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_more_is_decoded_than_samples(tmp_path, kind, caplog):
    """Where keyframes are recovery points and no pictures by themselves, every frame is decoded."""
    path = clip(tmp_path, kind)
    with caplog.at_level("DEBUG", logger="qasir"):
        taken(path, [schedule(path, KeyframeRule(Fraction(1), Fraction(4)))])
    assert ("decoding every frame" in caplog.text) == (kind == "intra refresh")


UNEVEN = [0, 3, 4, 9, 30, 31, 35, 60, 61, 62, 63, 90, 140, 141, 150, 151, 152, 200, 201, 300]


def _trimmed(folder):
    whole = write_sounding(folder / "whole.mp4", 100, keyframe_every=30)
    return trim(whole, folder / "v.mp4", Fraction(45, 100))


def _joined_late(folder):
    """A transport stream from the middle of a group of pictures: what comes before its first keyframe is not shown."""
    path = clip(folder, "MPEG-2 transport stream")
    data = path.read_bytes()
    path.write_bytes(data[: 188 * 3] + data[188 * 23 :])
    return path


def _edited(folder, kind, edits):
    return write_edits(clip(folder, kind), folder / "edited.mp4", edits)


ODD_FILES = {
    "uneven frames": lambda folder: write_video(
        folder / "v.mkv", 20, pts=UNEVEN, time_base=Fraction(1, 12), options={"g": "6", "bf": "2"}
    ),
    "uneven open GOPs": lambda folder: write_video(
        folder / "v.mp4", 20, pts=UNEVEN, time_base=Fraction(1, 12),
        options={"x264-params": "open-gop=1:keyint=6:bframes=3:scenecut=0"},
    ),
    "HEVC with open GOPs": lambda folder: write_video(
        folder / "v.mp4", 100, codec="libx265",
        options={"x265-params": "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=4:scenecut=0"},
    ),
    "an edit list": _trimmed,
    "late first frame": lambda folder: write_sounding(folder / "v.mp4", 60, picture_s=1.3, sound_s=1.0),
    "fragments": lambda folder: write_sounding(
        folder / "v.mp4", 60, container_options={"movflags": "frag_keyframe+delay_moov+default_base_moof"}
    ),
    "joined late": _joined_late,
    "one frame": lambda folder: write_video(folder / "v.mp4", 1),
    "two streams": lambda folder: write_film(folder / "v.mkv", 60),
    "shorter than a period": lambda folder: write_video(folder / "v.mp4", 3),
    "ProRes": lambda folder: write_video(folder / "v.mov", 30, codec="prores_ks", pix_fmt="yuv422p10le"),
    "H.264 in TS": lambda folder: write_video(folder / "v.ts", 60, options={"g": "12", "bf": "3"}),
    "all marked as keyframes": lambda folder: mark_all_keyframes(clip(folder, "closed GOPs with B-frames")),
    "HEVC, all marked as keyframes": lambda folder: mark_all_keyframes(clip(folder, "HEVC")),
    "one of many marked": lambda folder: mark_one_keyframe(clip(folder, "closed GOPs with B-frames")),
    "a keyframe of which nothing is shown": lambda folder: hide_keyframe(clip(folder, "VP9"), 48),
    "a first keyframe of which nothing is shown": lambda folder: hide_keyframe(clip(folder, "VP9"), 0),
    "several edits": lambda folder: _edited(folder, "closed GOPs with B-frames", [(0, 2.5), (4.25, 8)]),
    "HEVC, several edits": lambda folder: _edited(folder, "HEVC", [(0, 2.5), (5, 8)]),
    "the end edited away": lambda folder: _edited(folder, "closed GOPs with B-frames", [(0, 2.5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files_give_what_decoding_everything_gives(tmp_path, name):
    path = ODD_FILES[name](tmp_path)
    for rule in RULES:
        plan = schedule(path, rule)
        (got, end), on_display = taken(path, [plan]), frames_at(path, plan.ticks)
        assert [(s[2], s[3]) for s in got] == on_display
        assert end.duration_s == taken(path, [Clock(Fraction(1))])[1].duration_s
        for a, b in pairwise([0, 2, 3, None]):
            part = plan.part(a, b)
            assert [s[:5] for s in taken(path, [part])[0]] == [s[:5] for s in got[a:b]]


def frames_at(path, ticks):
    """[(timestamp, pixels) of the frame on display at each of these ticks], by decoding everything."""
    with av.open(str(path)) as container:
        frames = [(f.pts, f.to_ndarray().tobytes()) for f in container.decode(container.streams.video[0])]
    return [max(f for f in frames if f[0] - frames[0][0] <= tick) for tick in ticks]


def test_samples_of_a_file_without_timestamps_are_at_the_keyframes_that_come_out(tmp_path, caplog):
    """Packets of a bare H.264 stream have none."""
    path = write_video(tmp_path / "v.h264", 60, options={"g": "12", "bf": "2", "x264-params": "scenecut=0"})
    with caplog.at_level("DEBUG", logger="qasir"):
        plan = schedule(path, KeyframeRule(Fraction(1), Fraction(4)))
    assert "decoding every frame for the times" in caplog.text
    got, end = taken(path, [plan])
    uniform, uniform_end = taken(path, [Clock(Fraction(25))])
    assert end.duration_s == uniform_end.duration_s
    assert [s[4] for s in got] == [0.0, 1.44], "the first keyframe from 1 s on, at 25 frames a second"
    assert {s[3] for s in got} <= {s[3] for s in uniform}


def test_damage_is_passed_over_at_the_same_times(tmp_path):
    path = clip(tmp_path, "closed GOPs with B-frames")
    rule = KeyframeRule(Fraction(1), Fraction("0.9"))
    whole, _ = taken(path, [schedule(path, rule)])
    break_frame(path, 49)
    with pytest.raises(VideoError) as caught:
        taken(path, [schedule(path, rule)])
    assert caught.value.kind == "decode"
    got, end = taken(path, [schedule(path, rule, allow_partial=True)], allow_partial=True)
    assert [s[4] for s in got] == [s[4] for s in whole]
    assert [s[:4] for s in got[:4]] == [s[:4] for s in whole[:4]]
    assert end.decode_errors > 0


def test_a_file_that_is_cut_short_is_damaged(tmp_path):
    path = write_video(tmp_path / "v.mp4", 60, options={"g": "6"}, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-1500])
    rule = KeyframeRule(Fraction(1), Fraction(4))
    with pytest.raises(VideoError, match="cut short|corrupt"):
        schedule(path, rule)
    got, end = taken(path, [schedule(path, rule, allow_partial=True)], allow_partial=True)
    assert 0 < len(got) < 6
    assert end.decode_errors > 0


def test_only_keyframes_are_decoded_where_none_are_far_apart(tmp_path, monkeypatch):
    path = clip(tmp_path, "open GOPs")
    plan = schedule(path, KeyframeRule(Fraction(1), Fraction(4)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fed = []
        stream.codec_context.thread_count = 1
        wanted = [
            (plan.origin + tick, plan.origin + start) for tick, start in zip(plan.ticks, plan.starts, strict=True)
        ]
        reader = ScheduledFrames(container, stream, wanted, seeks=True)
        decode = reader._decoder.decode
        monkeypatch.setattr(reader._decoder, "decode", lambda packet: fed.append(packet) or decode(packet))
        assert [frame.pts for frame in reader.frames()] == [pts for pts, _ in wanted]
    assert sum(packet is not None for packet in fed) == len(wanted) == 5
