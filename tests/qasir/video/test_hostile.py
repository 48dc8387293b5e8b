"""Files made to read others, to take memory or to promise videos without end; and the honest ones nearest to them."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from qasir.errors import VideoError
from qasir.video.container import Clock, Video
from qasir.video.limits import LONG_S, MAX_DURATION_S, longest_s
from qasir.video.opening import open_container
from tests.videos import read, write_blank, write_every_codec, write_video


def kind_of(uri):
    with pytest.raises(VideoError) as caught, Video(str(uri)) as video:
        for _ in video.samples([Clock(Fraction(1))]):
            pass
    return caught.value.kind


LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile inner.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\ninner.mp4\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period duration="PT3S"><AdaptationSet mimeType="video/mp4">'
    '<Representation id="0"><BaseURL>inner.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}
"""What names other files or addresses, as FFmpeg knows it by its first bytes."""


@pytest.mark.parametrize("where", ["disk", "object store"])
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ts"])
@pytest.mark.parametrize("name", LISTS)
def test_what_names_other_files_is_not_a_video_whatever_it_is_called(tmp_path, name, suffix, where):
    write_video(tmp_path / "inner.mp4", 20)
    path = tmp_path / f"list{suffix}"
    path.write_text(LISTS[name])
    assert kind_of(path if where == "disk" else path.as_uri()) == "not_a_video"


def test_a_pattern_of_images_is_a_name_like_any_other(tmp_path):
    with av.open(str(tmp_path / "%03d.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert (tmp_path / "002.png").exists()
    assert kind_of(tmp_path / "%03d.png") in ("io", "not_a_video")
    assert kind_of(tmp_path / "002.png") == "not_a_video"


@pytest.mark.parametrize("where", ["disk", "object store"])
def test_every_container_that_people_have_is_opened(tmp_path, where):
    h264 = ["v.mov", "v.flv", "v.f4v", "v.h264", "v.3gp", "v.m2ts", "v.nut"]
    mpeg2 = ["v.mpg", "v.vob", "v.m2v", "v.mxf"]
    more = {"v.wmv": "msmpeg4v3", "v.hevc": "libx265", "v.ivf": "libvpx-vp9", "v.m4v": "mpeg4", "w.ogg": "libvpx"}
    paths = write_every_codec(tmp_path)
    paths += [write_video(tmp_path / name) for name in h264]
    paths += [write_video(tmp_path / name, rate=25, codec="mpeg2video") for name in mpeg2]
    options = {"x265-params": "log-level=none"}
    paths += [write_video(tmp_path / name, codec=codec, options=options) for name, codec in more.items()]
    paths.append(write_video(tmp_path / "v.y4m", 30, codec="wrapped_avframe"))
    paths.append(write_video(tmp_path / "v.gif", 30, codec="gif", pix_fmt="rgb8"))
    for path in paths:
        with Video(str(path) if where == "disk" else path.as_uri()) as video:
            assert (video.width, video.height) == (64, 48), path
            assert len(read(video, [Clock(Fraction(1))])[0]) >= 1, path


GROWTH = """
import re, sys
from fractions import Fraction
from qasir.errors import VideoError
from qasir.video.container import Clock, Video

def most_resident():  # ru_maxrss begins with what the process that started this one holds
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10

before = most_resident()
try:
    with Video(sys.argv[1]) as video:
        for _ in video.samples([Clock(Fraction(10))]):
            pass
    kind = "none"
except VideoError as error:
    kind = error.kind
print(kind, most_resident() - before)
"""


def growth(path):
    """(kind of failure, MiB by which reading a video makes a new process grow)."""
    done = subprocess.run([sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True)
    kind, mib = done.stdout.split()
    return kind, int(mib)


HUGE, MOST_MIB = (8000, 8000), 60
"""Such a frame alone takes 92 MiB."""


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("v.mp4", "libx264", "yuv420p"),
        ("v.mkv", "libx264", "yuv420p"),
        ("v.ts", "libx264", "yuv420p"),
        ("v.flv", "libx264", "yuv420p"),
        ("v.h264", "libx264", "yuv420p"),
        ("v.webm", "libvpx", "yuv420p"),
        ("v.avi", "mjpeg", "yuvj420p"),
        ("v.mpg", "mpeg2video", "yuv420p"),
        ("v.mov", "png", "rgb24"),
    ],
)
def test_a_frame_over_the_limit_costs_no_memory(tmp_path, name, codec, pix_fmt):
    options = {"libx264": {"preset": "ultrafast"}, "libvpx": {"deadline": "realtime", "cpu-used": "8"}}
    kind, mib = growth(write_blank(tmp_path / name, HUGE, codec, pix_fmt, **options.get(codec, {})))
    assert kind == "too_large"
    assert mib < MOST_MIB


def test_frames_that_grow_over_the_limit_midway_cost_no_memory(tmp_path):
    small = write_video(tmp_path / "small.h264", 300)
    write_blank(tmp_path / "huge.h264", HUGE, "libx264", preset="ultrafast")
    path = tmp_path / "v.h264"
    path.write_bytes(small.read_bytes() + (tmp_path / "huge.h264").read_bytes())
    kind, mib = growth(path)
    assert kind == "too_large"
    assert mib < MOST_MIB


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi"])
def test_tags_that_are_not_utf_8_change_nothing(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caf~~ de nuit"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["language"] = "eng"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"caf~~" in data
    path.write_bytes(data.replace(b"caf~~", b"caf\xe9\xff"))
    for uri in (str(path), path.as_uri()):
        with Video(uri) as video:
            assert len(read(video, [Clock(Fraction(1))])[0]) == 2
        with open_container(uri) as container:
            assert container.metadata.get("title", "caf").startswith("caf")


def test_a_name_that_hides_a_protocol_opens_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "inner.mp4", 20)
    for name in (
        "subfile,,start,0,end,0,,:inner.mp4",
        "concat:inner.mp4",
        "data:video/mp4;base64,AAAA",
        "cache:inner.mp4",
    ):
        assert kind_of(name) == "io"


@pytest.mark.parametrize("name", ["a\0b.mp4", "nothing://a/b.mp4"])
def test_what_is_no_name_of_a_file_cannot_be_opened(name):
    assert kind_of(name) == "io"


def write_gaps(path, n_frames, gap_s, **options):
    """Frames `gap_s` seconds apart."""
    return write_video(path, n_frames, pts=[i * gap_s for i in range(n_frames)], time_base=Fraction(1, 1), **options)


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.nut", "libx264"), ("v.avi", "mpeg4")]
)
def test_timestamps_without_end_are_found_before_they_are_followed(tmp_path, name, codec):
    """Each gap is just under the hour that a frame may last."""
    path = write_gaps(tmp_path / name, 290, 3599, codec=codec)
    indexes = []
    with pytest.raises(VideoError, match="the limit is") as caught, Video(str(path)) as video:
        indexes.extend(sample.index for sample in video.samples([Clock(Fraction(1))]))
    assert caught.value.kind == "too_long"
    assert len(indexes) <= 3600


def test_a_header_that_promises_nothing_hides_nothing(tmp_path):
    path = write_gaps(tmp_path / "v.mkv", 290, 3599)
    data = path.read_bytes()
    assert data.count(b"\x44\x89\x88") == 1
    path.write_bytes(data.replace(b"\x44\x89\x88", b"\x44\x8a\x88"))  # the id of its element Duration
    with Video(str(path)) as video:
        assert video.stated_duration_s is None
    assert kind_of(path) == "too_long"


def test_samples_are_bounded_and_not_seconds_alone(tmp_path):
    """A day of slides is a day of slides once a second, and two million samples of nothing at 25 a second."""
    path = write_gaps(tmp_path / "v.mp4", 24, 3590)
    with Video(str(path)) as video:
        assert sum(1 for _ in video.samples([Clock(Fraction(1), 0, 10)])) == 10
    with pytest.raises(VideoError, match="at 25 samples a second") as caught, Video(str(path)) as video:
        next(video.samples([Clock(Fraction(25))]))
    assert caught.value.kind == "too_long"


def test_a_last_frame_without_end_is_too_long(tmp_path):
    path = write_video(tmp_path / "v.mkv", 2)
    output = tmp_path / "w.mkv"
    with av.open(str(path)) as source, av.open(str(output), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream, packet.duration = stream, 10**9
                container.mux(packet)
    assert kind_of(output) == "too_long"


@pytest.mark.parametrize(
    ("n_frames", "gap_s", "name"),
    [
        (145, 600, "slides.mp4"),
        (145, 600, "slides.mkv"),
        (2880, 30, "camera.mp4"),
        pytest.param(17280, 10, "still.mkv", marks=pytest.mark.slow),
    ],
)
def test_long_videos_with_few_bytes_are_believed(tmp_path, n_frames, gap_s, name):
    """A day of slides, ten minutes each; a day of a camera at a frame in half a minute; two days of a still."""
    path = write_gaps(tmp_path / name, n_frames, gap_s, picture=np.zeros((48, 64, 3), np.uint8))
    with Video(str(path)) as video:
        n_samples = sum(1 for _ in video.samples([Clock(Fraction(1))]))
    assert n_samples >= (n_frames - 1) * gap_s


def test_how_long_a_file_may_be():
    assert longest_s(0) == longest_s(LONG_S) == LONG_S > 24 * 3600
    assert longest_s(2 * LONG_S) == 2 * LONG_S
    assert longest_s(1 << 40) == MAX_DURATION_S
