import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest
import uvicorn
from starlette.types import ASGIApp

from qasir.app.assembly import make_page
from qasir.app.engine import Engine
from qasir.app.settings import AppSettings
from qasir.encoding.encode import encode

HOSTILE = "<img src=x onerror=alert(1)>"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Site:
    """A server of the page. videos: the folder of what it shows."""

    url: str
    videos: Path
    index: str


@pytest.fixture(scope="session")
def shown_videos(demo, tmp_path_factory) -> Path:
    """One that browsers play, one in a folder, one that they do not play, one with a hostile name, and one that will
    be gone."""
    folder = tmp_path_factory.mktemp("shown")
    first, second, third, fourth = sorted((demo / "videos").glob("*.mp4"))
    (folder / "trips").mkdir()
    shutil.copy(first, folder / "first.mp4")
    shutil.copy(second, folder / "trips" / "second.mp4")
    shutil.copy(third, folder / f"{HOSTILE}.mp4")
    shutil.copy(third, folder / "gone.mp4")
    as_avi(fourth, folder / "old.avi")
    return folder


@pytest.fixture(scope="session")
def shown_index(shown_videos, tmp_path_factory) -> str:
    uri = str(tmp_path_factory.mktemp("shown_index") / "index")
    summary = encode(shown_videos, uri, isolate=False)
    assert (summary.encoded, summary.failed) == (5, 0)
    (shown_videos / "gone.mp4").unlink()
    return uri


@pytest.fixture(scope="session")
def site(shown_videos, shown_index) -> Iterator[Site]:
    with served(shown_index) as url:
        yield Site(url, shown_videos, shown_index)


@pytest.fixture(scope="module")
def chromium():
    """A browser. It goes with the module: while Playwright is there, no other test can run an event loop."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens pages, of which none may say an error or show a dialog by the end of the test. allowed: a part of errors
    that are meant to happen."""
    contexts, complaints = [], []

    def opened(url: str, *, allowed: str | None = None, **settings):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()

        def complain(what: str) -> None:
            if allowed is None or allowed not in what:
                complaints.append(what)

        page.on("console", lambda message: complain(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("dialog", lambda dialog: (complain(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def until(page: Any, expression: str, argument: Any = None, *, timeout_s: float = 30) -> None:
    """Wait until an expression holds in a page. What Playwright has for it is evaluated by the page itself, which its
    policy forbids."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


@contextmanager
def served(*indexes: str, settings: AppSettings | None = None) -> Iterator[str]:
    """The address of a page over indexes, also over one that is being made."""
    engine = Engine(indexes)
    try:
        with running(make_page(engine, settings or AppSettings())) as url:
            yield url
    finally:
        engine.close()


@contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def as_avi(source: Path, to: Path) -> None:
    """The same pictures as MPEG-4 part 2 in AVI, which Chromium does not play."""
    with av.open(str(source)) as read, av.open(str(to), "w") as written:
        pictures = read.streams.video[0]
        stream = written.add_stream("mpeg4", rate=pictures.average_rate)
        stream.width, stream.height, stream.pix_fmt = pictures.width, pictures.height, "yuv420p"
        for frame in read.decode(pictures):
            frame.pict_type = av.video.frame.PictureType.NONE
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
