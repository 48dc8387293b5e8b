"""Footage shows the very frames that sampling finds, from any second of any container."""

from fractions import Fraction

import numpy as np
import pytest

from qasir.errors import VideoError
from qasir.video.container import Clock, Video
from qasir.video.footage import Footage, upright_size
from tests.videos import brightness, read, write_audio, write_film, write_video

RATE = Fraction(7)
FILES = {
    "groups of twelve": ("v.mp4", "libx264", {"g": "12"}),
    "one group": ("v.mp4", "libx264", {"g": "1000"}),
    "open groups": ("v.mkv", "libx264", {"x264-params": "open-gop=1:keyint=24:bframes=3:scenecut=0"}),
    "open groups of HEVC": ("v.mp4", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=20:bframes=4"}),
    "AV1": ("v.mkv", "libsvtav1", {"g": "16"}),
    "VP9": ("v.webm", "libvpx-vp9", {"g": "16", "lag-in-frames": "16", "auto-alt-ref": "1"}),
    "MPEG-4 in AVI": ("v.avi", "mpeg4", {"g": "12"}),
    "MPEG-4 in AVI with frames out of order": ("v.avi", "mpeg4", {"g": "12", "bf": "2"}),
    "MPEG-2 in TS": ("v.ts", "mpeg2video", {"g": "12", "bf": "2"}),
    "H.264 in TS": ("v.ts", "libx264", {"g": "12"}),
    "MPEG-2 in PS": ("v.mpg", "mpeg2video", {"g": "12"}),
    "FLV": ("v.flv", "libx264", {"g": "12"}),
    "MOV": ("v.mov", "libx264", {"g": "12"}),
    "a bare stream": ("v.h264", "libx264", {"g": "12"}),
    "motion JPEG": ("v.avi", "mjpeg", {}),
}


@pytest.fixture(params=FILES)
def path(request, tmp_path):
    name, codec, options = FILES[request.param]
    form = {"mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    return str(write_video(tmp_path / name, 60, rate=25, codec=codec, options=options, pix_fmt=form))


def sampled(path):
    with Video(path) as video:
        samples, end = read(video, [Clock(RATE)])
    return [sample.frame.to_ndarray() for sample in samples], end.duration_s


def test_the_frame_on_display_is_the_one_that_is_sampled(path):
    expected, _ = sampled(path)
    with Footage(path) as footage:
        for number in reversed(range(len(expected))):
            assert np.array_equal(footage.frame_at(number / RATE).to_ndarray(), expected[number]), number


def test_frames_follow_each_other_from_any_second(path):
    with Footage(path) as footage:
        whole = [(shown.at_s, shown.frame.to_ndarray()) for shown in footage.frames(Fraction(0))]
        assert [at for at, _ in whole] == sorted({at for at, _ in whole})
        for start in (Fraction("0.3"), Fraction(1), Fraction("1.777")):
            first = max(number for number, (at, _) in enumerate(whole) if at <= start)
            rest = list(footage.frames(start))
            assert [shown.at_s for shown in rest] == [at for at, _ in whole[first:]]
            for shown, (_, frame) in zip(rest, whole[first:], strict=True):
                assert np.array_equal(shown.frame.to_ndarray(), frame)


def test_frames_at_uneven_times(tmp_path):
    pts = [0, 1, 40, 41, 90, 400]
    path = write_video(tmp_path / "a.mp4", 6, pts=pts, time_base=Fraction(1, 100))
    with Footage(str(path)) as footage:
        for at, index in [(0.39, 1), (0.40, 2), (0.895, 3), (3.99, 4), (4, 5)]:
            assert abs(footage.frame_at(Fraction(str(at))).to_ndarray(format="gray").mean() - brightness(index)) < 6


def test_the_first_stream_is_the_video(tmp_path):
    with Footage(str(write_film(tmp_path / "a.mp4"))) as footage:
        assert abs(footage.frame_at(Fraction(1)).to_ndarray(format="gray").mean() - brightness(10)) < 6
        assert footage.starts_at >= 0


@pytest.mark.parametrize(
    ("content", "kind"), [(b"", "not_a_video"), (b"ffconcat version 1.0\nfile a.mp4\n", "not_a_video")]
)
def test_what_is_no_video(tmp_path, content, kind):
    write_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(content)
    with pytest.raises(VideoError) as caught:
        Footage(str(tmp_path / "b.mp4"))
    assert caught.value.kind == kind


def test_sound_alone_is_no_video(tmp_path):
    with pytest.raises(VideoError) as caught:
        Footage(str(write_audio(tmp_path / "a.mp4")))
    assert caught.value.kind == "no_video_stream"


def test_upright_with_square_pixels_and_never_enlarged(tmp_path):
    for rotation, pixel_aspect, most, size in [
        (None, 1, 999, (64, 48)), (90, 1, 999, (48, 64)), (None, 2, 999, (128, 48)), (None, 2, 24, (64, 24)),
        (90, 2, 999, (48, 128)), (90, 1, 32, (24, 32)),
    ]:  # fmt: skip
        with Footage(str(write_video(tmp_path / f"{rotation}.mp4", 2, rotation=rotation))) as footage:
            assert upright_size(footage.frame_at(Fraction(0)), pixel_aspect, most, 9999) == size
