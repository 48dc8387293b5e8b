"""Decoding only what samples depend on gives exactly what the definition of a sample does."""

import itertools
import math
import random
from fractions import Fraction

import av
import numpy as np
import pytest

from qasir.errors import VideoError
from qasir.video.container import Clock, Video
from qasir.video.lookahead import Lookahead
from tests.videos import hide_keyframe, read, write_video

NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
KINDS = {
    "closed GOPs with B-frames": ("v.mp4", "libx264", {"g": "24", "bf": "3", "sc_threshold": "0"}),
    "open GOPs": ("v.mkv", "libx264", {"x264-params": "open-gop=1:keyint=24:bframes=3:scenecut=0"}),
    "one GOP": ("v.mp4", "libx264", {"x264-params": "keyint=infinite:scenecut=0"}),
    "keyframes only": ("v.mp4", "libx264", {"g": "1"}),
    "intra refresh": ("v.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=24"}),
    "interlaced": ("v.mp4", "libx264", {"x264-params": "tff=1:keyint=24", "flags": "+ildct+ilme"}),
    "HEVC": ("v.mp4", "libx265", {"x265-params": "log-level=none:keyint=24:scenecut=0"}),
    "MPEG-4 in AVI": ("v.avi", "mpeg4", {"g": "24", "bf": "2"}),
    "MPEG-2 transport stream": ("v.ts", "mpeg2video", {"g": "12", "bf": "2"}),
    "VP9": ("v.webm", "libvpx-vp9", {"g": "24", "deadline": "realtime", "cpu-used": "8"}),
    "AV1": ("v.mkv", "libsvtav1", {"g": "24", "preset": "12"}),
    "MJPEG": ("v.mkv", "mjpeg", {}),
}


def clip(folder, kind, n_frames=120):
    name, codec, options = KINDS[kind]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    pictures = [np.roll(NOISE, 3 * i, axis=1) // 4 + (i * 5 % 190) for i in range(n_frames)]
    return write_video(
        folder / name, n_frames, rate=12, codec=codec, pix_fmt=pix_fmt, options=options, pictures=pictures
    )


def samples(path, clocks):
    with Video(str(path)) as video:
        taken, end = read(video, clocks)
        found = [(s.clock, s.index, s.frame.pts, s.frame.to_ndarray().tobytes()) for s in taken]
        return sorted(found), end.duration_s


def by_definition(path, rate):
    """What `samples` gives, slowly: sample k is the last frame with time <= k / rate, for k / rate < duration."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        ticks = [frame.pts - frames[0].pts for frame in frames]
        end = (ticks[-1] + (frames[-1].duration or ticks[-1] - ticks[-2])) * stream.time_base
        times = [tick * stream.time_base for tick in ticks]
    shown = (max(i for i, at in enumerate(times) if at <= k / rate) for k in range(math.ceil(end * rate)))
    return [(0, k, frames[i].pts, frames[i].to_ndarray().tobytes()) for k, i in enumerate(shown)], float(end)


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_those_of_the_definition(tmp_path, kind):
    path = clip(tmp_path, kind)
    for rate in (Fraction("0.3"), Fraction(1), Fraction("3.7"), Fraction(12)):
        assert samples(path, [Clock(rate)]) == by_definition(path, rate)


@pytest.mark.parametrize("kind", KINDS)
def test_stretches_add_up_to_the_whole(tmp_path, kind):
    path = clip(tmp_path, kind)
    rate = Fraction("2.5")
    whole, _ = samples(path, [Clock(rate)])
    n = len(whole)
    chance = random.Random(kind)
    for _ in range(3):
        cuts = [0, *sorted(chance.sample(range(n + 5), 3)), None]
        parts = [samples(path, [Clock(rate, a, b)])[0] for a, b in itertools.pairwise(cuts)]
        assert list(itertools.chain(*parts)) == whole


def test_several_clocks_share_one_pass(tmp_path):
    path = clip(tmp_path, "closed GOPs with B-frames")
    clocks = [Clock(Fraction(1)), Clock(Fraction("3.7"), 4, 20), Clock(Fraction(12), 100), Clock(Fraction(2), 3, 3)]
    together, _ = samples(path, clocks)
    for number, clock in enumerate(clocks):
        assert [s[1:] for s in together if s[0] == number] == [s[1:] for s in samples(path, [clock])[0]]


def test_only_a_stretch_that_reaches_the_end_knows_the_duration(tmp_path):
    path = clip(tmp_path, "open GOPs")
    assert samples(path, [Clock(Fraction(1), 2, 4)])[1] is None
    assert samples(path, [Clock(Fraction(1), 2)])[1] == pytest.approx(10.0)
    assert samples(path, [Clock(Fraction(1), 50)]) == ([], pytest.approx(10.0))


def test_what_no_sample_needs_is_not_decoded(tmp_path):
    """At a sample in two seconds and twelve keyframes a second, most groups of pictures are never decoded."""
    with av.open(str(clip(tmp_path, "keyframes only"))) as container:
        stream = container.streams.video[0]
        period = int(2 / stream.time_base)
        lookahead = Lookahead(container, stream, lambda tick: -(-tick // period) * period, max_gap=period * 1800)
        shown = [at for _, at, _ in lookahead.frames()]
    assert set(range(0, 5 * period, period)) <= set(shown)
    assert len(shown) <= 5 + 3


@pytest.mark.parametrize("number", [24, 72])
def test_a_decoder_that_drops_frames_is_found_out(tmp_path, caplog, number):
    """By its timestamp a hidden frame is one like any other, and the decoder gives nothing of it."""
    path = hide_keyframe(clip(tmp_path, "VP9"), number)
    with caplog.at_level("DEBUG", logger="qasir"):
        assert samples(path, [Clock(Fraction(12))]) == by_definition(path, Fraction(12))
    assert "decoding every frame" in caplog.text


def test_a_large_frame_is_refused_before_it_is_decoded(tmp_path):
    """Real 16k frames: 16384 x 2304 pixels are over the limit by their number, in the header already."""
    picture = np.zeros((2304, 16384, 3), np.uint8)
    path = write_video(tmp_path / "v.mkv", 1, size=(16384, 2304), codec="mjpeg", pix_fmt="yuvj420p", picture=picture)
    with pytest.raises(VideoError, match="16384x2304") as caught:
        Video(str(path))
    assert caught.value.kind == "too_large"
