"""What a player's time is where ours is 0: by itself, and as a browser has it."""

import shutil
import socket
import threading
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from qasir.errors import VideoError
from qasir.video.container import Clock, Video
from qasir.video.media_time import media_offset_s
from tests.videos import brightness, read, trim, write_audio, write_sounding, write_video

VP9 = {"codec": "libvpx-vp9", "sound": "libopus"}
NO_EDITS = {"container_options": {"use_editlist": "0"}}
FRAGMENTS = {"container_options": {"movflags": "frag_keyframe+delay_moov+default_base_moof"}}
FILES: dict[str, tuple[dict[str, Any], float]] = {
    "plain.mp4": ({"sound_s": None}, 0.0),
    "together.mp4": ({}, 0.0),  # the sound's priming is before 0
    "sound_first.mp4": ({"picture_s": 0.5}, 0.5),
    "sound_first.mov": ({"picture_s": 0.5, "sound": "pcm_s16le"}, 0.5),
    "picture_first.mp4": ({"sound_s": 0.5}, 0.0),
    "both_late.mp4": ({"picture_s": 1.3, "sound_s": 1.0}, 1.3),
    # Frames are shown two frames after they are decoded. One keyframe: a browser seeks them by when they are decoded.
    "without_edit_list.mp4": ({"sound_s": None, "keyframe_every": 50, **NO_EDITS}, 0.2),
    "fragmented.mp4": ({"picture_s": 0.5, **FRAGMENTS}, 0.5),
    "sound_first.mkv": ({"picture_s": 0.5}, 0.5),
    "both_late.mkv": ({"picture_s": 1.3, "sound_s": 1.0}, 1.3),
    "sound_first.webm": ({"picture_s": 0.5, **VP9}, 0.5),
    "together.webm": (VP9, 0.0),
}
"""name -> (how it is written, when a player shows the first frame)."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounding")
    for name, (how, _) in FILES.items():
        write_sounding(folder / name, **how)
    trim(folder / "together.mp4", folder / "trimmed.mp4", Fraction(45, 100))
    return folder


@pytest.mark.parametrize("name", FILES)
def test_the_offset_is_the_first_displayed_frames_time_in_the_file(files, name):
    path = str(files / name)
    assert media_offset_s(path) == pytest.approx(FILES[name][1], abs=0.001)
    with Video(path) as video:
        assert video.media_offset_s is None
        read(video, [Clock(Fraction(1))])
        assert video.media_offset_s == media_offset_s(path)


def test_what_an_edit_list_hides_does_not_count(files):
    with Video(str(files / "trimmed.mp4")) as video:
        samples, _ = read(video, [Clock(Fraction(10), 0, 1)])
    assert samples[0].frame.to_ndarray(format="gray").mean() == pytest.approx(brightness(5), abs=12)
    assert media_offset_s(str(files / "trimmed.mp4")) == 0.0


def test_a_reading_from_the_middle_knows_it_too(tmp_path):
    path = write_video(tmp_path / "a.mkv", 40, pts=[700 + 100 * i for i in range(40)], time_base=Fraction(1, 1000))
    with Video(str(path)) as video:
        read(video, [Clock(Fraction(1), 2, 3)])
        assert video.media_offset_s == pytest.approx(0.7)


def test_reading_it_takes_little_of_a_long_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", 500, options={"g": "10"})
    n_read = []
    assert media_offset_s(str(path), alive=lambda: n_read.append(1)) == 0.0
    assert len(n_read) < 60


def test_a_file_without_a_frame_is_an_error(tmp_path):
    with pytest.raises(VideoError, match="no video stream"):
        media_offset_s(str(write_audio(tmp_path / "a.mp4")))
    empty = write_video(tmp_path / "b.mkv", 0)
    with pytest.raises(VideoError):
        media_offset_s(str(empty))


# In a browser

_PAGE = "<video id=player muted></video><canvas id=canvas width=64 height=48></canvas>"
_SHOWN = """async ([url, times]) => {
  const player = document.getElementById("player");
  const canvas = document.getElementById("canvas").getContext("2d");
  const happens = (name) => new Promise((done, fail) => {
    player.addEventListener(name, done, {once: true});
    player.addEventListener("error", () => fail(player.error.message), {once: true});
  });
  player.src = url;
  await happens("loadeddata");
  const levels = [];
  for (const time of times) {
    const shown = new Promise((done) => player.requestVideoFrameCallback(done));
    const late = new Promise((done) => setTimeout(done, 1000));  // no callback comes for a frame that is there already
    player.currentTime = time;
    await happens("seeked");
    await Promise.race([shown, late]);
    canvas.drawImage(player, 0, 0, 64, 48);
    levels.push(canvas.getImageData(32, 24, 1, 1).data[0]);
  }
  return levels;
}"""


@pytest.fixture(scope="module")
def address(files):
    """Where the files are served, by ranges, beside an empty page."""
    uvicorn = pytest.importorskip("uvicorn")
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    routes = [Route("/", lambda request: HTMLResponse(_PAGE)), Mount("/files", StaticFiles(directory=str(files)))]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        serving.join()


@pytest.fixture(scope="module")
def page(address):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        yield page
        with suppress(playwright.Error):
            browser.close()


@pytest.mark.parametrize("name", [*FILES, "trimmed.mp4"])
def test_a_browser_shows_at_our_time_plus_the_offset_what_is_on_display_at_our_time(files, address, page, name):
    path, period = str(files / name), Fraction(1, 20)
    with Video(path) as video:
        samples, _ = read(video, [Clock(1 / period)])
    ours = np.array([int(sample.frame.to_ndarray(format="rgb24")[24, 32, 0]) for sample in samples])
    numbers = [n for n in range(1, len(ours) - 1, 6) if ours[n] == ours[n - 1]]  # not just where one frame ends
    times = [float(n * period) + media_offset_s(path) for n in numbers]
    theirs = page.evaluate(_SHOWN, [f"{address}/files/{name}", times])
    np.testing.assert_allclose(theirs, ours[numbers], atol=4)
    assert len(set(theirs)) > 4, "which frame it is can be told"
