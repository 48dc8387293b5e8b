"""The player in a real browser."""

import re
from urllib.parse import parse_qs, urlparse

import av
import pytest

from tests.qasir.app.conftest import until

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
