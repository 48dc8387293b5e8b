"""The player in a real browser."""

import re
from urllib.parse import parse_qs, urlparse

import av
import numpy as np
import pytest

from qasir.encoding.encode import encode
from tests.qasir.app.conftest import served, until

SHOWS = "document.querySelector('#player').videoWidth > 0 && document.querySelector('#player').readyState >= 2"


def media_time(page) -> float:
    return page.evaluate("document.querySelector('#player').currentTime")


def shown_time(page) -> float:
    """Seconds that the player says."""
    minutes, seconds = page.inner_text(".controls .time").split(" / ")[0].split(":")
    return 60 * int(minutes) + float(seconds)


def said(page) -> dict[str, list[str]]:
    return parse_qs(urlparse(page.url).query)


@pytest.fixture
def watching(site, open_page):
    """The player at the first moment of a video, paused."""

    def opened(video: str):
        page = open_page(f"{site.url}?q=a+dog&cut=-1")  # all of them are above the line
        page.locator(f".hit[data-video='{video}'] a.open").click()
        until(page, SHOWS)
        page.evaluate("document.querySelector('#player').pause()")
        return page

    return opened


def test_a_click_plays_the_video_from_the_moment(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1")
    answers = []
    page.on("response", lambda response: answers.append((response.status, urlparse(response.url).path)))
    hit = page.locator(".hit[data-video=first]")
    hit.wait_for()
    start, end = (float(hit.get_attribute(f"data-{name}")) for name in ("start", "end"))
    offset = page.evaluate("fetch('api/search?q=a+dog').then(r => r.json()).then(a => a.hits[0].media_offset_s)")
    hit.click()
    until(page, SHOWS)
    assert start <= media_time(page) - offset <= end
    until(page, "!document.querySelector('#player').paused")
    assert hit.get_attribute("aria-current") == "true"
    assert said(page)["video"] == ["first"]
    assert (206, "/media/first") in answers


def test_a_link_opens_the_same_question_video_and_second(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1&video=trips%2Fsecond&t=31.5")
    until(page, SHOWS)
    page.wait_for_selector(".hit[data-video='trips/second']")
    assert page.input_value("#query") == "a dog"
    assert abs(media_time(page) - 31.5) < 0.05
    assert page.inner_text(".watch-title") == "second"
    assert page.evaluate("document.querySelector('#player').paused")


def test_what_the_browser_does_not_show_plays_as_clips(site, watching):
    page = watching("old")
    source = urlparse(page.evaluate("document.querySelector('#player').currentSrc"))
    assert source.path == "/clips/old"
    start = float(parse_qs(source.query)["start"][0])
    assert abs(media_time(page) + start - shown_time(page)) < 0.2
    assert float(said(page)["t"][0]) >= start
    track = page.locator(".track").bounding_box()
    for share in (0.9, 0.1):
        page.mouse.click(track["x"] + share * track["width"], track["y"] + 30)
        until(page, SHOWS)
        duration = float(page.get_attribute(".track", "aria-valuemax"))
        assert abs(shown_time(page) - share * duration) < 1


def test_the_time_line_shows_the_question_and_seeks(site, watching):
    page = watching("first")
    page.wait_for_selector(".band", state="attached")
    assert page.get_attribute(".timeline .attention", "d").count("V") > 5
    duration = float(page.get_attribute(".track", "aria-valuemax"))
    track = page.locator(".track").bounding_box()
    page.mouse.move(track["x"] + track["width"] / 2, track["y"] + 30)
    assert re.match(r"\d+:\d\d\.\d", page.inner_text(".tip span"))
    until(page, "document.querySelector('.tip img').naturalWidth > 0")
    page.mouse.click(track["x"] + track["width"] / 2, track["y"] + 30)
    until(page, "at => Math.abs(document.querySelector('#player').currentTime - at) < 1", duration / 2)
    until(page, "at => Math.abs(new URLSearchParams(location.search).get('t') - at) < 1", duration / 2)


def test_keys_move_through_the_video(site, watching):
    page = watching("first")
    page.wait_for_selector(".moment")
    page.keyboard.press("Home")
    begun = shown_time(page)
    page.keyboard.press("ArrowRight")
    until(page, "at => Math.abs(document.querySelector('#player').currentTime - at) < 0.2", begun + 5)
    page.keyboard.press("ArrowLeft")
    until(page, "at => Math.abs(document.querySelector('#player').currentTime - at) < 0.2", begun)
    page.keyboard.press(" ")
    until(page, "!document.querySelector('#player').paused")
    page.keyboard.press(" ")
    until(page, "document.querySelector('#player').paused")
    page.keyboard.press(">")
    assert page.evaluate("document.querySelector('#player').playbackRate") == 1.25
    page.keyboard.press("m")
    assert page.evaluate("document.querySelector('#player').muted")


def test_the_next_and_the_previous_moment(site, watching):
    page = watching("first")
    page.wait_for_selector(".moment")
    starts = page.locator(".moment").count()
    for number in range(starts):
        page.locator(".moment").nth(number).click()
        page.wait_for_selector(f".moments li:nth-child({number + 1}) .moment[data-now]")
    page.evaluate("document.querySelector('#player').pause()")
    if starts > 1:
        page.keyboard.press("p")
        page.wait_for_selector(f".moments li:nth-child({starts - 1}) .moment[data-now]")
        page.keyboard.press("n")
        page.wait_for_selector(f".moments li:nth-child({starts}) .moment[data-now]")


def test_link_time_code_and_clip_are_taken_along(site, watching):
    page = watching("first")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("text=Copy link")
    page.wait_for_selector("text=Link copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert parse_qs(urlparse(link).query)["video"] == ["first"]
    page.click("text=Copy time code")
    page.wait_for_selector("text=/00:.* copied/")
    assert re.fullmatch(r"00:0\d:\d\d\.\d{3}", page.evaluate("navigator.clipboard.readText()"))
    page.wait_for_selector(".moment")
    with page.expect_download() as download:
        page.click(".actions a[download]")
    with av.open(str(download.value.path())) as clip:
        assert clip.streams.video[0].codec_context.name == "h264"


def test_more_like_the_frame_that_is_shown(site, watching):
    page = watching("first")
    at = shown_time(page)
    page.click(".actions >> text=More like this")
    page.wait_for_selector("#parts .chip")
    video, seconds = said(page)["like"][0].rsplit("@", 1)
    assert video == "first"
    assert abs(float(seconds) - at) < 0.2
    page.go_back()
    page.wait_for_selector("#watch:not([hidden])")
    until(page, SHOWS)


def test_back_closes_the_player_and_the_focus_returns(site, watching):
    page = watching("first")
    page.keyboard.press("Escape")
    page.wait_for_selector("#watch", state="hidden")
    assert page.evaluate("document.activeElement.closest('.hit').dataset.video") == "first"
    assert "video" not in said(page)
    page.go_back()
    until(page, SHOWS)
    page.go_back()
    page.wait_for_selector("#watch", state="hidden")


@pytest.fixture(scope="module")
def long_site(tmp_path_factory):
    """A server of one video of 300 s that browsers do not play."""
    folder = tmp_path_factory.mktemp("long")
    pictures_to_avi(folder / "long.avi", seconds=300)
    index = str(tmp_path_factory.mktemp("long_index") / "index")
    assert encode(folder, index, isolate=False).encoded == 1
    with served(index) as url:
        yield url


def pictures_to_avi(to, *, seconds: int) -> None:
    """10 grey pictures a second, brighter with time, as MPEG-4 part 2."""
    with av.open(str(to), "w") as written:
        stream = written.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(10 * seconds):
            shade = np.full((240, 320, 3), 255 * number // (10 * seconds), np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            written.mux(stream.encode(frame.reformat(format="yuv420p")))
        written.mux(stream.encode(None))


def clip_requests(page) -> list[float]:
    """Grows by the start of every clip that the page asks for."""
    starts: list[float] = []

    def note(request) -> None:
        address = urlparse(request.url)
        if address.path.startswith("/clips/"):
            starts.append(float(parse_qs(address.query)["start"][0]))

    page.on("request", note)
    return starts


def test_dragging_the_time_line_asks_for_few_clips_and_ends_where_it_is_let_go(long_site, open_page):
    page = open_page(f"{long_site}?q=grey&cut=-1&video=long&t=10", allowed="503")
    until(page, SHOWS)
    starts = clip_requests(page)
    track = page.locator(".track").bounding_box()
    y = track["y"] + 30
    page.mouse.move(track["x"] + 0.1 * track["width"], y)
    page.mouse.down()
    for number in range(40):
        page.mouse.move(track["x"] + (0.1 + 0.02 * number) * track["width"], y)
        page.wait_for_timeout(5)
    assert abs(shown_time(page) - 300 * 0.88) < 2, "the head follows the pointer"
    page.mouse.up()
    until(page, f"{SHOWS} && !document.querySelector('.over.waits')")
    assert abs(shown_time(page) - 300 * 0.88) < 2
    assert page.locator(".over").is_hidden()
    assert len(set(starts)) <= 10
    assert page.evaluate("document.querySelector('#player').paused")


def test_a_clip_that_is_refused_once_is_asked_for_again(long_site, open_page):
    page = open_page(f"{long_site}?q=grey&cut=-1", allowed="503")
    page.wait_for_selector(".hit")
    refused = []

    def refuse_the_first(route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, json={"error": "busy"})

    page.route("**/clips/**", refuse_the_first)
    page.locator(".hit a.open").click()
    until(page, SHOWS)
    assert refused


def test_a_seek_in_a_clip_that_is_being_made_goes_where_it_should(long_site, open_page):
    page = open_page(f"{long_site}?q=grey&cut=-1&video=long&t=40")
    until(page, SHOWS)
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    until(page, f"{SHOWS} && !document.querySelector('.over.waits')")
    until(page, "at => Math.abs(new URLSearchParams(location.search).get('t') - at) < 0.3", 50)
    assert abs(shown_time(page) - 50) < 0.3
    start = float(parse_qs(urlparse(page.evaluate("document.querySelector('#player').currentSrc")).query)["start"][0])
    assert abs(start + media_time(page) - 50) < 0.3
    assert page.evaluate("document.querySelector('#player').paused"), "nobody asked for it to play"


def test_after_the_end_of_a_clip_it_plays_from_the_video_s_start(site, watching):
    page = watching("old")
    page.locator(".track").press("End")
    until(page, f"{SHOWS} && document.querySelector('#player').ended")
    page.locator("#watch").press(" ")
    until(page, f"{SHOWS} && !document.querySelector('#player').paused")
    assert shown_time(page) < 5


def test_a_seek_while_it_plays_reaches_the_address(site, watching):
    page = watching("first")
    page.evaluate("document.querySelector('#player').play()")
    page.locator(".track").press("Home")
    page.keyboard.press("ArrowRight")
    until(page, "Math.abs(new URLSearchParams(location.search).get('t') - 7) <= 2")
    assert not page.evaluate("document.querySelector('#player').paused")


def test_what_is_being_typed_stays_while_the_second_reaches_the_address(site, watching):
    page = watching("first")
    for _ in range(2):
        page.locator("#watch").press("ArrowRight")
    before = said(page)["t"]
    page.keyboard.press("/")
    page.keyboard.press("End")
    for letter in " on a green hill":
        page.keyboard.type(letter)
        page.wait_for_timeout(80)
    assert said(page)["t"] != before
    assert page.input_value("#query") == "a dog on a green hill"


def test_a_frame_step_takes_the_video_s_own_rate(site, watching):
    page = watching("first")
    page.locator(".track").press("Home")
    until(page, "document.querySelector('.track').ariaValueNow === '0.0'")
    begun = media_time(page)
    rate = page.evaluate("fetch('api/moments?q=a+dog&video_id=first').then(r => r.json()).then(a => a.fps || 25)")
    for number in (1, 2):
        page.keyboard.press(".")
        until(page, "at => Math.abs(document.querySelector('#player').currentTime - at) < 0.001", begun + number / rate)


def test_a_video_that_is_gone_keeps_its_reason_and_its_second(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1&video=gone&t=12", allowed="404")
    page.wait_for_selector(".over p:not(:empty)")
    reason = page.inner_text(".over p")
    page.wait_for_selector(".moment")
    page.locator("#watch").press("ArrowRight")
    assert abs(shown_time(page) - 17) < 0.2
    page.keyboard.press(" ")
    page.locator(".moment").first.click()
    page.wait_for_timeout(300)
    assert page.inner_text(".over p") == reason
    assert said(page)["t"] == ["12"]


def test_an_unknown_video_is_said_once(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&video=nowhere", allowed="404")
    page.wait_for_selector(".over p:not(:empty)")
    assert page.inner_text(".legend") == ""


def test_a_second_past_the_end_shows_the_last_frame(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1&video=first&t=99999")
    until(page, SHOWS)
    duration = float(page.get_attribute(".track", "aria-valuemax"))
    assert abs(shown_time(page) - duration) < 0.2


def test_the_keys_work_after_a_click_on_what_takes_no_letters(site, watching):
    page = watching("first")
    page.check("#by input[value=moment]", force=True)
    page.wait_for_selector(".busy", state="detached")
    page.focus("#by input[value=moment]")
    page.keyboard.press("m")
    assert page.evaluate("document.querySelector('#player').muted")
    page.focus("#cut-range")
    page.keyboard.press("m")
    assert not page.evaluate("document.querySelector('#player').muted")
    before = shown_time(page)
    page.keyboard.press("ArrowRight")
    assert shown_time(page) == before, "the arrows move the range"
    page.keyboard.press(">")
    page.select_option(".controls select", "2")
    page.keyboard.press("m")
    assert page.evaluate("document.querySelector('#player').muted")
    page.keyboard.press(">")
    assert page.evaluate("document.querySelector('#player').playbackRate") == 3
    page.reload()
    until(page, SHOWS)
    assert page.input_value(".controls select") == "3"


def test_what_one_does_with_a_second_is_seen_without_scrolling(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1", viewport={"width": 1440, "height": 900})
    page.locator(".hit[data-video=first] a.open").click()
    until(page, SHOWS)
    actions = page.locator(".actions").bounding_box()
    assert actions["y"] + actions["height"] < 900
    assert page.evaluate("scrollY") == 0
