"""Pictures of frames: the one on display, exactly, upright and in its shape."""

import io
import os
import signal

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from qasir.app.application import make_app
from qasir.app.frames import Frames
from qasir.app.media_api import router
from qasir.app.settings import AppSettings
from qasir.app.thumbnails import cell_of
from qasir.encoding.decode import thumbnail
from qasir.errors import QasirError
from qasir.video.container import Video
from qasir.video.painter import FramePainter
from qasir.video.super_image import Cell
from tests.high_range import write_high_range
from tests.qasir.app.catalogues import FileCatalogue
from tests.videos import break_frame, brightness, write_every_codec, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_every_codec(folder)
    write_video(folder / "wide.mp4", 10, size=(128, 48))
    write_video(folder / "upright.mp4", 10, size=(128, 48), rotation=90)
    write_high_range(folder / "bright.mp4", 2)
    break_frame(write_video(folder / "broken.mp4", options={"g": "5"}), 12)
    return folder


@pytest.fixture(scope="module")
def catalogue(folder):
    return FileCatalogue({path.name: path for path in folder.iterdir()})


@pytest.fixture(scope="module")
def client(catalogue):
    with TestClient(make_app([router(catalogue, AppSettings())])) as client:
        yield client


def picture(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("L")).astype(int)


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "av1.mkv", "vp9.webm", "mpeg4.avi", "mpeg2.ts"])
def test_the_frame_on_display(client, name):
    for at, index in [(0, 0), (0.05, 0), (1.2999, 13), (1.3, 13), (2.05, 20), (0.7, 7), (2.99, 29)]:
        seen = picture(client.get(f"/frames/{name}?at={at}"))
        assert seen.shape == (48, 64)
        assert abs(seen.mean() - brightness(index)) < 6, (at, index)


def test_a_high_dynamic_range_is_mapped(client, folder):
    with Video(str(folder / "bright.mp4")) as video:
        frame = video.read_first()
    expected = np.empty((64, 96, 3), np.uint8)
    FramePainter("squash", tone_map=True).draw(frame, expected, Cell(0, 0, 64, 96))
    seen = picture(client.get("/frames/bright.mp4?at=0"))
    assert np.abs(seen - np.asarray(Image.fromarray(expected).convert("L")).astype(int)).mean() < 3


def test_upright_and_in_its_shape(client):
    assert picture(client.get("/frames/wide.mp4?at=0")).shape == (48, 128)
    assert picture(client.get("/frames/upright.mp4?at=0")).shape == (128, 48)
    assert picture(client.get("/frames/upright.mp4?at=0&height=90")).shape == (90, 34)


def test_a_file_that_is_damaged_in_its_middle(client):
    assert abs(picture(client.get("/frames/broken.mp4?at=2.5")).mean() - brightness(25)) < 6
    picture(client.get("/frames/broken.mp4?at=1.25"))


def test_a_picture_is_kept(client):
    got = client.get("/frames/h264.mp4?at=1")
    again = client.get("/frames/h264.mp4?at=1.0001", headers={"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "private, max-age=600")
    assert client.get("/frames/h264.mp4?at=1.0001").content == got.content


@pytest.mark.parametrize(
    "query", ["", "at=-1", "at=nan", "at=inf", "at=x", "at=1e300", "at=0&height=5000", "at=0&height=0"]
)
def test_what_cannot_be_asked_for(client, query):
    got = client.get(f"/frames/h264.mp4?{query}")
    assert got.status_code == 400
    assert "error" in got.json()


def test_beyond_the_end(client):
    picture(client.get("/frames/h264.mp4?at=3.5"))
    assert client.get("/frames/h264.mp4?at=100").status_code == 404
    assert client.get("/frames/h264.mp4?at=0&index=1").status_code == 404


def test_a_file_that_is_no_video_any_more(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10)
    with TestClient(make_app([router(FileCatalogue({"a": path}), AppSettings())])) as client:
        picture(client.get("/frames/a?at=0"))
        path.write_bytes(b"no video" * 100)
        got = client.get("/frames/a?at=0")
        assert (got.status_code, got.json()["error"][:3]) == (400, "a: ")
        path.unlink()
        assert client.get("/frames/a?at=0").status_code == 404


def test_a_process_that_dies_is_replaced(catalogue):
    frames = Frames(1)
    video = catalogue.video("h264.mp4")
    first = frames.jpeg(video, "1", 0, 90)
    (painter,) = frames._idle
    os.kill(painter._child.pid, signal.SIGKILL)
    for _ in range(2):  # the file is left alone for a while
        with pytest.raises(QasirError, match="ended with status -9"):
            frames.jpeg(video, "1", 0, 90)
    assert frames.jpeg(video, "2", 0, 90) == first
    (painter,) = frames._idle
    frames.close()
    assert painter._child.returncode is not None


def test_cells_of_a_thumbnail():
    levels = np.arange(9).reshape(3, 3) * 25
    stored = thumbnail(np.repeat(np.repeat(np.repeat(levels[:, :, None], 3, 2), 74, 0), 74, 1).astype(np.uint8))
    for number in range(9):
        cut = Image.open(io.BytesIO(cell_of(stored, 3, number)))
        assert abs(np.asarray(cut.convert("L"))[5:-5, 5:-5].astype(int).mean() - number * 25) < 4
    assert Image.open(io.BytesIO(cell_of(stored, 3, 0, aspect=2.0))).size == (74, 37)
    assert Image.open(io.BytesIO(cell_of(stored, 3, 0, fit="letterbox", aspect=2.0))).size == (74, 37)
    assert Image.open(io.BytesIO(cell_of(stored, 1, 0, aspect=0.5))).size == (111, 222)
