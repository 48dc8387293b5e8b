"""Clips: every browser plays them, they start where they should, sound and pictures agree, and nothing is left over."""

import http.client
import io
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient

from qasir.app import clips
from qasir.app.application import make_app
from qasir.app.cache import Cache
from qasir.app.media_api import router
from qasir.app.settings import AppSettings
from tests.qasir.app.catalogues import FileCatalogue
from tests.qasir.app.live import live
from tests.stores import bucket_server
from tests.videos import break_frame, brightness, write_audio, write_every_codec, write_film, write_video

RATE = 48_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_every_codec(folder)
    write_film(folder / "film.mp4")
    write_video(folder / "upright.mp4", 10, size=(128, 48), rotation=90)
    write_video(folder / "large.mp4", 3, size=(1920, 1080))
    break_frame(write_video(folder / "broken.mp4", options={"g": "5"}), 12)
    write_video(folder / "uneven.mp4", 5, pts=[0, 1, 2, 30, 230], time_base=Fraction(1, 100))
    noise = np.random.default_rng(0).integers(0, 256, (300, 48, 64, 3), np.uint8)  # more than a pipe holds
    write_video(folder / "long.mp4", 300, rate=10, pictures=list(noise))
    write_audio(folder / "sound.mp4")
    write_clapper(folder / "late.mkv", sound_from_s=0.4)
    write_clapper(folder / "early.mkv", pictures_from_s=0.7)
    write_clapper(folder / "short.mkv", sound_until_s=1.5)
    return folder


def write_clapper(path, *, pictures_from_s=0.0, sound_from_s=0.0, sound_until_s=4.0):
    """Four seconds: the picture is white, and a tone sounds, in the first fifth of each second of the container's."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"g": "15"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=RATE, layout="stereo")
        for i in range(round(pictures_from_s * 20), 80):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 255 if i % 20 < 4 else 0, np.uint8), "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 20)
            container.mux(stream.encode(frame))
        for start in range(round(sound_from_s * RATE), round(sound_until_s * RATE), 960):
            at = (start + np.arange(960)) / RATE
            tone = np.where(at % 1 < 0.2, 0.5 * np.sin(2 * np.pi * 1000 * at), 0).astype(np.float32)
            heard = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = RATE, start, Fraction(1, RATE)
            container.mux(sound.encode(heard))
        for each in (stream, sound):
            container.mux(each.encode(None))


@pytest.fixture(scope="module")
def catalogue(folder):
    return FileCatalogue({path.name: path for path in folder.iterdir()}, duration_s=60.0)


@pytest.fixture(scope="module")
def client(catalogue):
    with TestClient(make_app([router(catalogue, AppSettings(clip_s=60.0))])) as client:
        yield client


def made(client, name, start, end, **more):
    got = client.get(f"/clips/{name}", params={"start": start, "end": end, **more})
    assert got.status_code == 200, got.text
    assert got.headers["content-type"] == "video/mp4"
    return got.content


def pictures(content):
    """[(second, mean level)] of a clip."""
    with av.open(io.BytesIO(content)) as container:
        assert "mp4" in container.format.name
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        return [(f.pts * f.time_base, f.to_ndarray(format="gray").mean()) for f in container.decode(stream)]


def tones(content):
    """The seconds at which a tone begins."""
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac"
        frames = list(container.decode(stream))
    assert [frame.pts for frame in frames] == list(range(0, 1024 * len(frames), 1024)), "the sound has gaps"
    loud = np.abs(np.concatenate([frame.to_ndarray()[0] for frame in frames])) > 0.1
    at = np.flatnonzero(loud) / RATE
    return [float(at[i]) for i in range(len(at)) if i == 0 or at[i] - at[i - 1] > 0.3]


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "av1.mkv", "vp9.webm", "mpeg4.avi", "mpeg2.ts", "film.mp4"])
def test_time_0_is_where_it_starts(client, name):
    seen = pictures(made(client, name, 1.25, 2.5))
    assert seen[0][0] == 0
    for at, level in seen:
        shown = 12 if at == 0 else round(at * 10 + Fraction("12.5"))
        assert abs(level - brightness(shown)) < 8, at
    assert len(seen) == 13


@pytest.mark.parametrize("name", ["late.mkv", "early.mkv", "short.mkv"])
def test_sound_and_pictures_agree(client, name):
    first_s = 0.7 if name == "early.mkv" else 0.0
    for start in (0.0, 0.6, 2.1):
        content = made(client, name, start, 4 - first_s)
        white = [float(at) for at, level in pictures(content) if level > 128]
        flashes = [at for i, at in enumerate(white) if i == 0 or at - white[i - 1] > 0.3]
        heard = tones(content)
        expected = [second - first_s - start for second in range(5 if name != "short.mkv" else 2)]
        expected = [second for second in expected if 0.05 < second < 3.9 - first_s - start]
        assert [at for at in heard if at > 0.05] == pytest.approx(expected, abs=0.03)
        if name != "short.mkv":
            assert [at for at in flashes if at > 0.05] == pytest.approx(expected, abs=0.001)
        is_there = start + first_s < 1.5 if name == "short.mkv" else name != "late.mkv" or start > 0.4
        assert (min(heard, default=1) < 0.05) == (is_there and (start + first_s) % 1 < 0.2)


def test_frames_at_uneven_times(client):
    seen = pictures(made(client, "uneven.mp4", 0, 2.5))
    assert all(later - earlier <= Fraction(1, 2) for (earlier, _), (later, _) in itertools.pairwise(seen))
    for at, index in [(Fraction(2, 100), 2), (Fraction(30, 100), 3), (Fraction(230, 100), 4)]:
        assert abs(dict(seen)[at] - brightness(index)) < 8


def test_upright_and_at_most_720_lines(client):
    for name, size in [("upright.mp4", (48, 128)), ("large.mp4", (1280, 720))]:
        with av.open(io.BytesIO(made(client, name, 0, 0.3))) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == size


def test_damage_is_passed_over(client):
    seen = pictures(made(client, "broken.mp4", 0, 3))
    assert abs(dict(seen)[Fraction(5, 2)] - brightness(25)) < 8


def test_without_sound(client):
    with av.open(io.BytesIO(made(client, "h264.mp4", 0, 1))) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_it_is_kept_and_answers_ranges(client):
    whole = made(client, "film.mp4", 0, 2)
    query = "/clips/film.mp4?start=0&end=2"
    head = client.head(query)
    assert (head.headers["content-length"], head.headers["accept-ranges"]) == (str(len(whole)), "bytes")
    got = client.get(query, headers={"Range": "bytes=100-"})
    assert (got.status_code, got.content) == (206, whole[100:])
    assert client.get(query, headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert client.get(query, headers={"Range": "bytes=99999999-"}).status_code == 416


def test_before_it_is_made_it_promises_nothing(client):
    head = client.head("/clips/film.mp4?start=0.125&end=2")
    assert head.status_code == 200
    assert not {"content-length", "accept-ranges", "etag"} & set(head.headers)
    got = client.get("/clips/film.mp4?start=0.125&end=2", headers={"Range": "bytes=0-"})
    assert (got.status_code, got.headers["cache-control"]) == (200, "no-store")


def test_a_download_has_a_name(folder):
    with TestClient(make_app([router(FileCatalogue({'a/b"é\n': folder / "h264.mp4"}), AppSettings())])) as client:
        got = client.get("/clips/a%2Fb%22%C3%A9%0A?start=0&end=1&download=true")
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"b___n 0.0-1.0 s.mp4\"; filename*=UTF-8''b%22%C3%A9%5Cn%200.0-1.0%20s.mp4"
    )


@pytest.mark.parametrize(
    ("name", "query", "status", "said"),
    [
        ("h264.mp4", "start=0&end=7200", 400, "a clip of 7,200 s is too long: the limit is 60 s"),
        ("h264.mp4", "start=2&end=2", 400, "a clip ends after it starts"),
        ("h264.mp4", "start=2&end=1", 400, "a clip ends after it starts"),
        ("h264.mp4", "start=-1&end=1", 400, "start"),
        ("h264.mp4", "start=nan&end=1", 400, "start"),
        ("h264.mp4", "start=0&end=inf", 400, "end"),
        ("h264.mp4", "start=1e400&end=1", 400, "start"),
        ("h264.mp4", "start=0", 400, "end"),
        ("h264.mp4", "start=70&end=80", 404, "ends at 60.000 s"),
        ("none", "start=0&end=1", 404, "none"),
        ("..%2Fh264.mp4", "start=0&end=1", 404, "h264.mp4"),
        ("sound.mp4", "start=0&end=1", 400, "no video stream"),
    ],
)
def test_what_cannot_be_asked_for(client, name, query, status, said):
    got = client.get(f"/clips/{name}?{query}")
    assert got.status_code == status
    assert said in got.json()["error"]


def test_a_clip_from_an_object_store(folder, monkeypatch):
    with bucket_server({"a.mp4": (folder / "film.mp4").read_bytes()}) as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        with TestClient(make_app([router(FileCatalogue({"a": "s3://bucket/a.mp4"}), AppSettings())])) as client:
            assert len(pictures(made(client, "a", 1, 2))) == 10


class TestLive:
    """With clients that leave, and processes that stop or die."""

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        write = clips.Making._write

        def write_and_stop_at_first(making, chunk):
            if making.size == 0 and making.wanted.video_id == "long.mp4":
                os.kill(making._child.pid, signal.SIGSTOP)
            write(making, chunk)

        monkeypatch.setattr(clips.Making, "_write", write_and_stop_at_first)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setattr(clips, "_GRACE_S", 0.2)
        monkeypatch.setattr(clips, "_PATIENCE_S", 0.5)
        return tmp_path

    @pytest.fixture
    def port(self, place, catalogue):
        with live(make_app([router(catalogue, AppSettings(clips=1))])) as port:
            yield port
        assert list(place.iterdir()) == []

    def test_when_the_last_client_leaves_nothing_is_left(self, port, place):
        first, second = begun(port), begun(port)
        child = the_child()
        first.close()
        time.sleep(0.5)
        assert the_child() == child, "one still listens"
        second.close()
        wait_until(lambda: not children())
        wait_until(lambda: not kept(place))

    def test_who_wants_the_same_shares_it(self, port):
        first = begun(port)
        child = the_child()
        second = begun(port)
        assert the_child() == child
        os.kill(child, signal.SIGCONT)
        contents = [each.read() for each in (first, second)]
        assert contents[0] == contents[1]
        assert len(pictures(HEAD + contents[0])) == 250

    def test_no_more_at_once_than_allowed(self, port):
        first = begun(port)
        refused = asked(port, "/clips/h264.mp4?start=0&end=1")
        assert refused.status == 503
        assert b"1 clips are being made" in refused.read()
        first.close()
        assert asked(port, "/clips/h264.mp4?start=0&end=1").status == 200, "nobody listens to the first one any more"

    def test_a_process_that_dies_breaks_the_clip_off(self, port, place):
        first = begun(port)
        os.kill(the_child(), signal.SIGALRM)
        os.kill(the_child(), signal.SIGCONT)
        with pytest.raises(http.client.IncompleteRead):
            first.read()
        assert not kept(place)
        assert asked(port, "/clips/h264.mp4?start=0&end=1").status == 200

    def test_the_end_of_the_server_ends_them(self, place, catalogue):
        of_others = set(children(b"frame_child"))  # servers of the session have some too
        with live(make_app([router(catalogue, AppSettings())])) as port:
            first = begun(port)
            assert asked(port, "/frames/h264.mp4?at=0").status == 200
            assert set(children(b"frame_child")) > of_others
            threading.Timer(0.5, first.close).start()
        assert children() == []
        assert set(children(b"frame_child")) <= of_others
        assert list(place.iterdir()) == []


def kept(place):
    return [path for path in place.glob("*/*") if path.name != "lock"]


HEAD = b"\0\0\0\x1cftyp"


def begun(port):
    """The answer to a request for a long clip, whose process has stopped after the first bytes."""
    answer = asked(port, "/clips/long.mp4?start=0&end=25")
    assert answer.status == 200
    assert answer.read(8) == HEAD
    return answer


def asked(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    connection.sock = None  # so that closing the answer closes the connection
    return answer


def the_child():
    (child,) = children()
    return child


def children(kind=b"clip_child"):
    """Process ids of those that make clips, or frames, for this process."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            stat, command = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if kind in command and int(stat.rsplit(")", 1)[1].split()[1]) == os.getpid():
            found.append(int(entry.name))
    return found


def wait_until(is_so):
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_cache_forgets_what_was_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache = Cache(100)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    for key in "abc":
        cache.put(key, key.encode() * 40)
        cache.get("a")
    assert [cache.get(key) for key in "abc"] == [b"a" * 40, None, b"c" * 40]
    cache.put("a", b"other")
    assert cache.get("a") == b"other"
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) == 45
    cache.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_goes_when_the_next_one_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    leave = "import os; from qasir.app.cache import Cache; cache = Cache(9); cache.put('a', b'a'); os._exit(9)"
    subprocess.run([sys.executable, "-c", leave], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    one, other = Cache(9), Cache(9)
    assert sorted(tmp_path.iterdir()) == sorted([one.folder, other.folder])


def test_a_disk_that_is_full(client, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clips.Making, "_write", refuse)
    got = client.get("/clips/h264.mp4?start=0.5&end=1")
    assert (got.status_code, got.json()) == (503, {"error": "a clip cannot be written: No space left on device"})


def test_a_clip_larger_than_the_cache(folder):
    settings = AppSettings(cache_bytes=20)
    with TestClient(make_app([router(FileCatalogue({"a": folder / "h264.mp4"}), settings)])) as client:
        got = client.get("/clips/a?start=0&end=1")
    assert (got.status_code, got.json()) == (503, {"error": "a clip takes more than the 20 bytes of the cache"})
