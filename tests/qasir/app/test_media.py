"""What /media gives: the bytes of files in the index, whole or by range, and nothing else."""

import http.client
import io
import os
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from qasir.app.application import make_app
from qasir.app.media_api import router
from qasir.app.settings import AppSettings
from tests.qasir.app.catalogues import FileCatalogue
from tests.qasir.app.live import live
from tests.stores import bucket_server

CONTENT = bytes(range(256)) * 8
SIZE = len(CONTENT)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(CONTENT)
    return path


def client_of(catalogue):
    return TestClient(make_app([router(catalogue, AppSettings())]), raise_server_exceptions=False)


@pytest.fixture
def client(file):
    with client_of(FileCatalogue({"a": file, "more/b ü?#%": file})) as client:
        yield client


def test_a_file_whole(client):
    got = client.get("/media/a")
    assert (got.status_code, got.content) == (200, CONTENT)
    assert got.headers["content-type"] == "video/mp4"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["content-length"] == str(SIZE)
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "x-qasir-changed" not in got.headers


def test_an_id_is_percent_encoded(client):
    assert client.get(f"/media/{quote('more/b ü?#%', safe='')}").content == CONTENT


def test_head_gives_the_headers_alone(client):
    got = client.head("/media/a", headers={"Range": "bytes=0-3"})
    assert (got.status_code, got.content, got.headers["content-length"]) == (200, b"", str(SIZE))


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=2000-999999999999999999999999999", 2000, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1),
        ("bytes=-99999", 0, SIZE - 1),
        ("BYTES= 7-9 ", 7, 9),
    ],
)
def test_a_range(client, asked, first, last):
    got = client.get("/media/a", headers={"Range": asked})
    assert (got.status_code, got.content) == (206, CONTENT[first : last + 1])
    assert got.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert got.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["bytes=-0", f"bytes={SIZE}-", f"bytes={'9' * 5000}-", "bytes=99999-100000"])
def test_a_range_beyond_the_end(client, asked):
    got = client.get("/media/a", headers={"Range": asked})
    assert (got.status_code, got.headers["content-range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "items=0-5", "bytes=0-1,5-6", "0-5",
        "bytes=" + ",".join(f"{i}-{i}" for i in range(1000)), "bytes=0-1-2", "bytes=\u0661-", "bytes=--1", "bytes=+1-2",
    ],
)  # fmt: skip
def test_a_range_that_is_none_is_passed_over(client, asked):
    got = client.get("/media/a", headers={"Range": asked.encode()})
    assert (got.status_code, got.content) == (200, CONTENT)


def test_what_a_client_has_is_not_sent_again(client):
    etag = client.get("/media/a").headers["etag"]
    assert client.get("/media/a", headers={"If-None-Match": f'"x", W/{etag}'}).status_code == 304
    assert client.get("/media/a", headers={"If-None-Match": '"x"'}).status_code == 200
    range_of = {"Range": "bytes=0-3"}
    assert client.get("/media/a", headers={**range_of, "If-Range": etag}).status_code == 206
    assert client.get("/media/a", headers={**range_of, "If-Range": '"older"'}).content == CONTENT


@pytest.mark.parametrize(
    "video_id",
    [
        "../../etc/passwd", "/etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "a/%2e%2e/a", "a%00", "%00", "%ff", "", "a.mp4",
        "..%5c..%5cetc", "file:%2f%2f%2fetc%2fpasswd", "a%0d%0aSet-Cookie:x", "x" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["media", "frames", "thumbnails"])
def test_only_what_the_index_has_is_opened(client, kind, video_id):
    got = client.get(f"/{kind}/{video_id}", params={"at": 0})
    assert got.status_code == 404
    assert "error" in got.json()


def test_an_empty_file_is_gone(client, file):
    file.write_bytes(b"")
    assert client.get("/media/a").status_code == 404


def test_a_file_that_is_gone(client, file):
    file.unlink()
    got = client.get("/media/a")
    assert (got.status_code, got.json()) == (404, {"error": "a: its file is gone"})
    file.mkdir()
    assert client.get("/media/a").status_code == 404


def test_a_file_that_changed_is_given_and_says_so(client, file):
    before = client.get("/media/a").headers["etag"]
    file.write_bytes(b"another film")
    got = client.get("/media/a", headers={"Range": "bytes=0-3", "If-Range": before})
    assert (got.content, got.headers["x-qasir-changed"]) == (b"another film", "true")


def test_a_file_that_may_not_be_read(client, file, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/secret/place")

    monkeypatch.setattr("qasir.app.sources.os.open", refuse)
    got = client.get("/media/a")
    assert (got.status_code, got.json()) == (503, {"error": "a: its file cannot be read: Permission denied"})


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a", "a.mp4.js"])
def test_nothing_is_given_as_text(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"<script>")
    with client_of(FileCatalogue({"a": path})) as client:
        assert client.get("/media/a").headers["content-type"] == "application/octet-stream"


def test_a_client_that_leaves_stops_the_reading(tmp_path):
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # of which nothing is stored
    with live(make_app([router(FileCatalogue({"a": path}), AppSettings())])) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/media/a")
        answer = connection.getresponse()
        assert answer.read(1000) == bytes(1000)
        assert is_open(path)
        connection.close()
        answer.close()
        end = time.monotonic() + 10
        while is_open(path):
            assert time.monotonic() < end
            time.sleep(0.02)


def is_open(path):
    """Whether this process has a file open."""
    return any(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())


def test_a_file_that_becomes_shorter_while_it_is_sent(tmp_path):
    path = tmp_path / "large.mp4"
    path.write_bytes(bytes(64 << 20))
    with live(make_app([router(FileCatalogue({"a": path}), AppSettings())])) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/media/a")
        answer = connection.getresponse()
        os.truncate(path, 1000)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()


def test_an_object_store_is_read_by_ranges(monkeypatch):
    content = bytes(range(251)) * 20000  # of more than one chunk
    with bucket_server({"films/a.mkv": content}) as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        with client_of(FileCatalogue({"a": "s3://bucket/films/a.mkv", "gone": "s3://bucket/b.mkv"})) as client:
            assert client.get("/media/a").content == content
            bucket.ranges.clear()
            got = client.get("/media/a", headers={"Range": "bytes=4000000-4000099"})
            assert (got.status_code, got.content) == (206, content[4000000:4000100])
            assert got.headers["content-type"] == "video/x-matroska"
            assert bucket.ranges == ["bytes=4000000-4000099"]
            assert client.head("/media/a").headers["content-length"] == str(len(content))
            assert client.get("/media/gone").status_code == 404


def test_a_folder_of_pictures_is_no_file_but_has_frames_and_clips(tmp_path):
    for number in range(1, 7):
        Image.new("RGB", (64, 48), (number * 30,) * 3).save(tmp_path / f"{number}.png")
    with client_of(FileCatalogue({"v": f"{tmp_path}/?frame_rate=2"})) as client:
        refused = client.get("/media/v")
        assert (refused.status_code, "ask for a clip" in refused.text) == (404, True)
        frame = client.get("/frames/v", params={"at": 1.6})
        assert Image.open(io.BytesIO(frame.content)).getpixel((30, 20)) == pytest.approx((120, 120, 120), abs=2)
        clip = client.get("/clips/v", params={"start": 0, "end": 2})
        assert (clip.status_code, clip.headers["content-type"]) == (200, "video/mp4")
        assert clip.content[4:8] == b"ftyp"
