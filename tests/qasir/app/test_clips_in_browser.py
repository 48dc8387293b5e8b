"""A real browser shows what /media and /clips give, a clip also while it is being made."""

import threading
from urllib.parse import quote

import numpy as np
import pytest
from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from qasir.app import clips
from qasir.app.application import make_app
from qasir.app.media_api import router
from qasir.app.settings import AppSettings
from tests.browser import chromium
from tests.qasir.app.catalogues import FileCatalogue
from tests.qasir.app.live import live
from tests.videos import write_film, write_video


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    noise = list(np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), np.uint8))
    return {
        "film": write_film(folder / "film.mp4"),
        "mov": write_video(folder / "a.mov"),
        "mkv": write_video(folder / "a.mkv"),
        "no suffix": write_video(folder / "a.mp4").rename(folder / "a"),
        "hevc": write_video(
            folder / "hevc.mp4", 100, codec="libx265", pictures=noise, options={"x265-params": "log-level=none"}
        ),
    }


@pytest.fixture(scope="module")
def page(files):
    pages = APIRouter()

    @pages.get("/player", response_class=HTMLResponse)
    def player(src: str) -> str:
        return f'<!doctype html><video id="player" muted src="{src}"></video>'

    app = make_app([router(FileCatalogue(files, 10.0), AppSettings()), pages])
    with chromium() as browser, live(app) as port:
        yield browser.new_page(base_url=f"http://127.0.0.1:{port}")


def show(page, src):
    page.goto("/player?src=" + quote(src))
    page.wait_for_function("player.videoWidth > 0 && player.readyState >= 2")


@pytest.mark.parametrize("name", ["film", "mov", "mkv", "no suffix"])
def test_a_file_plays_and_is_sought(page, name):
    show(page, f"media/{quote(name, safe='')}")
    page.evaluate("player.currentTime = 2")
    page.wait_for_function("!player.seeking && player.readyState >= 2")
    assert page.evaluate("player.currentTime") == 2


def test_what_the_browser_cannot_show_plays_as_a_clip(page, monkeypatch):
    stopped, go_on = threading.Event(), threading.Event()
    write = clips.Making._write

    def write_and_stop_in_the_middle(making, chunk):
        write(making, chunk)
        if making.size > 100_000:
            stopped.set()
            assert go_on.wait(60)

    monkeypatch.setattr(clips.Making, "_write", write_and_stop_in_the_middle)
    src = "clips/hevc?start=1&end=9"
    show(page, src)
    page.evaluate("player.play()")
    page.wait_for_function("player.currentTime > 0.3")
    assert page.evaluate("[player.videoWidth, player.error]") == [64, None]
    assert stopped.is_set(), "it was shown when it was whole already"
    assert page.evaluate("player.seekable.end(0)") == 0, "whoever wants another second asks for another clip"
    go_on.set()
    assert len(page.request.get(src).body()) > 100_000
    assert page.request.head(src).headers["accept-ranges"] == "bytes"
    show(page, src)
    assert page.evaluate("player.duration") == pytest.approx(8, abs=0.05)
    page.evaluate("player.currentTime = 6.5")
    page.wait_for_function("!player.seeking && player.readyState >= 2")
    assert page.evaluate("player.currentTime") == 6.5
