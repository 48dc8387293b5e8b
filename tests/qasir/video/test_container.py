from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from qasir.errors import ERROR_KINDS, VideoError
from qasir.video.container import Clock, Video
from qasir.video.painter import FramePainter
from qasir.video.super_image import Cell
from tests.videos import break_frame, brightness, read, write_audio, write_film, write_video


def shown(path, rate="1", **options):
    """The frame numbers (by brightness) that sampling at `rate` shows, and the video's duration."""
    levels = np.array([brightness(i) for i in range(20)])
    painter = FramePainter("squash")
    numbers = []
    with Video(str(path)) as video:
        samples, end = read(video, [Clock(Fraction(rate))], **options)
        for sample in samples:
            pixels = np.zeros((8, 8, 3), np.uint8)
            painter.draw(sample.frame, pixels, Cell(0, 0, 8, 8))
            numbers.append(int(np.abs(levels - pixels.mean()).argmin()))
            assert np.abs(levels - pixels.mean()).min() < 5
        return numbers, end.duration_s


def on_display(times, rate, duration):
    """The definition, slowly: sample k is the last frame with time <= k / rate, for k / rate < duration."""
    numbers, k = [], 0
    while Fraction(k) / rate < duration:
        numbers.append(max(i for i, t in enumerate(times) if t - times[0] <= Fraction(k) / rate) % 20)
        k += 1
    return numbers


@pytest.mark.parametrize("rate", ["1", "2", "0.5", "3", "10", "7", "29.97", "25"])
def test_samples_are_the_frames_on_display(tmp_path, rate):
    path = write_video(tmp_path / "v.mp4", 37, rate=10)
    numbers, duration = shown(path, rate)
    assert duration == pytest.approx(3.7)
    assert numbers == on_display([Fraction(i, 10) for i in range(37)], Fraction(rate), Fraction(37, 10))


def test_variable_frame_rate_and_an_odd_time_base(tmp_path):
    time_base = Fraction(7, 1000)
    pts = [0, 3, 4, 50, 51, 120, 290, 291, 292, 430]
    path = write_video(tmp_path / "v.mkv", len(pts), pts=pts, time_base=time_base, codec="mpeg4")
    with Video(str(path)) as video:  # Matroska keeps milliseconds
        times = [Fraction(round(Fraction(p) * time_base * 1000), 1000) for p in pts]
        _, end = read(video, [Clock(Fraction(1))])
        duration = Fraction(str(end.duration_s))
    assert duration > times[-1]
    assert shown(path, "2")[0] == on_display(times, Fraction(2), duration)


def test_time_starts_at_the_first_displayed_frame(tmp_path):
    late = write_video(tmp_path / "late.mkv", 20, pts=[5000 + 100 * i for i in range(20)], time_base=Fraction(1, 1000))
    assert shown(late, "5") == shown(write_video(tmp_path / "v.mkv", 20), "5")


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv420p", ".mp4"),
        ("libx264", "yuv444p", ".mp4"),
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx265", "yuv420p10le", ".mp4"),
        ("libsvtav1", "yuv420p", ".mkv"),
        ("libvpx-vp9", "yuv420p", ".webm"),
        ("mpeg4", "yuv420p", ".avi"),
    ],
)
def test_codecs_and_bit_depths(tmp_path, codec, pix_fmt, suffix):
    path = write_video(
        tmp_path / f"v{suffix}", 21, codec=codec, pix_fmt=pix_fmt, options={"x265-params": "log-level=none"}
    )
    numbers, duration = shown(path, "2")
    assert numbers == [0, 5, 10, 15, 0]
    assert duration == pytest.approx(2.1, abs=0.002)


def test_odd_sizes(tmp_path):
    path = write_video(tmp_path / "v.mp4", 11, size=(65, 47), pix_fmt="yuv444p")
    with Video(str(path)) as video:
        assert (video.width, video.height) == (65, 47)
        assert video.codec == "h264"
    assert shown(path)[0] == [0, 10]


@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_full_and_limited_range_give_the_same_colours(tmp_path, color_range):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (250, 10, 10), (5, 5, 200)
    path = write_video(tmp_path / "v.mp4", 3, picture=picture, color_range=color_range, options={"crf": "1"})
    with Video(str(path)) as video:
        pixels = np.zeros((48, 64, 3), np.uint8)
        FramePainter("squash").draw(next(video.samples([Clock(Fraction(1))])).frame, pixels, Cell(0, 0, 48, 64))
    assert np.abs(pixels[24, 8].astype(int) - (250, 10, 10)).max() <= 8
    assert np.abs(pixels[24, 56].astype(int) - (5, 5, 200)).max() <= 8


@pytest.mark.parametrize(("degrees", "bright_side"), [(0, "top"), (90, "left"), (180, "bottom"), (-90, "right")])
def test_rotation_metadata_turns_the_picture_upright(tmp_path, degrees, bright_side):
    """A display rotation turns counter-clockwise, so a bright top ends at the left for 90 degrees."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16] = 255
    path = write_video(tmp_path / "v.mp4", 3, picture=picture, rotation=degrees)
    with Video(str(path)) as video:
        pixels = np.zeros((60, 60, 3), np.uint8)
        FramePainter("squash").draw(next(video.samples([Clock(Fraction(1))])).frame, pixels, Cell(0, 0, 60, 60))
    sides = {"top": pixels[:12], "bottom": pixels[-12:], "left": pixels[:, :12], "right": pixels[:, -12:]}
    assert max(sides, key=lambda side: sides[side].mean()) == bright_side


def test_letterbox_leaves_the_rest_black(tmp_path):
    path = write_video(tmp_path / "v.mp4", 3, size=(96, 48), picture=np.full((48, 96, 3), 255, np.uint8))
    with Video(str(path)) as video:
        pixels = np.zeros((40, 40, 3), np.uint8)
        FramePainter("letterbox").draw(next(video.samples([Clock(Fraction(1))])).frame, pixels, Cell(0, 0, 40, 40))
    assert (pixels[:10] == 0).all()
    assert (pixels[30:] == 0).all()
    assert pixels[10:30].mean() > 250


def fails(path, **options):
    with pytest.raises(VideoError) as caught, Video(str(path)) as video:
        list(video.samples([Clock(Fraction(1))], **options))
    assert caught.value.kind in ERROR_KINDS
    return caught.value.kind


def test_bad_files_fail_with_a_kind(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    whole = write_video(tmp_path / "whole.mp4", 60).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert fails(tmp_path / "empty.mp4") == "not_a_video"
    assert fails(tmp_path / "text.mp4") == "not_a_video"
    assert fails(tmp_path / "cut.mp4") == "not_a_video"
    assert fails(tmp_path / "nowhere.mp4") == "io"
    assert fails(write_audio(tmp_path / "sound.m4a")) == "no_video_stream"


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_file_cut_short_fails_or_is_kept_in_part(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    options = {"movflags": "faststart"}
    path = tmp_path / name
    with av.open(str(path), "w", options=options if name.endswith("mp4") else {}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, i, axis=0), format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    assert fails(path) == "decode"
    with Video(str(path)) as video:
        kept, end = read(video, [Clock(Fraction(1))], allow_partial=True)
    assert 2 <= len(kept) <= 5
    assert end.decode_errors >= 1


def test_empty_packets_of_avi_show_the_frame_before_again(tmp_path):
    at = [0, *range(2, 40)]  # the muxer fills what is left out
    path = write_video(
        tmp_path / "v.avi", len(at), pts=at, time_base=Fraction(1, 10), codec="mpeg4", options={"bf": "0"}
    )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.frames == 40 > sum(packet.size > 0 for packet in container.demux(stream))
    numbers, duration = shown(path, "10")
    assert duration == pytest.approx(4.0)
    assert numbers == on_display([Fraction(t, 10) for t in at], Fraction(10), Fraction(4))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.6)])
    assert fails(path) == "decode"


def test_damage_in_the_middle_fails_the_video_or_one_frame_of_it(tmp_path):
    path = break_frame(write_video(tmp_path / "v.mp4", 50, options={"bf": "0"}), 30)
    assert fails(path) == "decode"
    with Video(str(path)) as video:
        kept, end = read(video, [Clock(Fraction(1))], allow_partial=True)
    shown = [sample.frame.time for sample in kept]
    assert shown == pytest.approx([0.0, 1.0, 2.0, 2.9, 4.0])  # the frame of second 3 is the broken one
    assert end.decode_errors == 1


def test_the_first_video_stream_counts_whatever_else_the_file_holds(tmp_path):
    numbers, duration = shown(write_film(tmp_path / "film.mp4", 30), "2")
    assert numbers == [0, 5, 10, 15, 0, 5]
    assert duration == pytest.approx(3.0)


def test_timestamps_that_jump_are_broken_not_a_long_still(tmp_path):
    pts = [0, 1, 2, 10_000_000]
    path = write_video(tmp_path / "v.mkv", 4, pts=pts, time_base=Fraction(1, 1000), codec="mpeg4")
    assert fails(path) == "timestamps"


def test_one_frame_is_a_video(tmp_path):
    numbers, duration = shown(write_video(tmp_path / "v.mp4", 1))
    assert numbers == [0]
    assert duration == pytest.approx(0.1, abs=0.01)


def test_a_colon_in_the_name_is_part_of_the_name(tmp_path):
    assert shown(write_video(tmp_path / "http: a.mp4", 11).rename(tmp_path / "http:a b.mp4"))[0] == [0, 10]


def test_a_digital_tape_and_a_bare_stream(tmp_path):
    """DV's demuxer gives its clock for the frame rate, and a bare stream is taken for one of 25 frames a second."""
    with av.open(str(tmp_path / "v.dv"), "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for i in range(30):
            grey = np.full((576, 720, 3), brightness(i), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    with Video(str(tmp_path / "v.dv")) as video:
        assert video.frame_rate == 25
    assert shown(tmp_path / "v.dv", "5") == ([0, 5, 10, 15, 0, 5], pytest.approx(1.2))
    write_video(tmp_path / "v.h264", 30, rate=10, options={"bf": "0"})
    assert shown(tmp_path / "v.h264", "5")[0][:6] == [0, 5, 10, 15, 0, 5]
