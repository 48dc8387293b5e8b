"""The search view in a real browser."""

import io
import json
import re
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image

from qasir.app.settings import AppSettings
from tests.qasir.app.conftest import HOSTILE, served, until

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
NO_SCROLL = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def said(page) -> dict[str, list[str]]:
    """What the address says."""
    return parse_qs(urlparse(page.url).query)


def hits(page, n: int) -> None:
    """Wait for so many hits."""
    until(page, "n => document.querySelectorAll('.hit').length === n && !document.querySelector('.busy')", n)


def jpeg(colour: str = "orange") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "JPEG")
    return out.getvalue()


def wrong_for_screen_readers(page) -> list[str]:
    """What axe finds that is more than minor."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]}" for one in found if one["impact"] != "minor"
        for node in one["nodes"]
    ]  # fmt: skip


def test_hits_come_as_one_pauses_and_the_address_says_what_was_asked(site, open_page):
    page = open_page(site.url)
    page.keyboard.press("/")
    page.keyboard.type("a penguin on a blue background", delay=5)
    hits(page, 5)
    assert said(page) == {"q": ["a penguin on a blue background"]}
    assert "5 videos" in page.inner_text("#summary") or "of 5 videos" in page.inner_text("#summary")
    assert page.title() == "a penguin on a blue background · qasir"
    page.reload()
    hits(page, 5)
    assert page.input_value("#query") == "a penguin on a blue background"


def test_a_hit_shows_the_frames_of_its_moment(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&by=moment")
    page.wait_for_selector(".hit")
    hit = page.locator(".hit:has(.cell)").first
    assert re.fullmatch(r"\d+:\d\d(\.\d)?–\d+:\d\d(\.\d)?", hit.locator(".time").inner_text())
    assert hit.locator(".score").inner_text().startswith(("0.", "−0."))
    for picture in (hit.locator(".sharp.there"), hit.locator(".cell img").first):
        picture.wait_for()
        until(page, "image => image.complete && image.naturalWidth > 0", picture.element_handle())
    lit = hit.locator(".cell").evaluate_all("cells => cells.map(c => Number(c.style.getPropertyValue('--fit')))")
    assert all(0 <= one <= 1 for one in lit)


def test_names_are_text_whatever_they_say(site, open_page):
    page = open_page(f"{site.url}?q={HOSTILE}&cut=-1")
    hits(page, 5)
    titles = page.locator(".hit .title").all_inner_texts()
    assert HOSTILE in titles
    page.locator(".hit", has_text=HOSTILE).locator("a.open").click()
    until(page, "document.querySelector('#player').videoWidth > 0")
    assert page.inner_text(".watch-title") == HOSTILE
    assert page.locator("img[src='x']").count() == 0
    page.locator(".hit", has_text=HOSTILE).locator(".more-like").click()
    page.wait_for_selector(".chip")
    assert HOSTILE in page.inner_text(".chip")
    assert page.locator("img[src='x']").count() == 0


def test_a_video_that_is_gone_says_so_and_the_page_goes_on(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1", allowed="404")
    hits(page, 5)
    gone = page.locator(".hit[data-video=gone]")
    assert gone.locator(".problem").inner_text().strip()
    gone.locator("a.open").click()
    page.wait_for_selector(".over p:not(:empty)")
    page.locator(".hit[data-video=first] a.open").click()
    until(page, "document.querySelector('#player').videoWidth > 0")


def test_filters_without_sql_and_with_it(site, open_page):
    page = open_page(f"{site.url}?q=a+dog", allowed="400")
    hits(page, 5)
    page.click("#filters-open")
    page.check("input[name=codec][value=mpeg4]")
    hits(page, 1)
    assert page.inner_text("#active").strip() == "mpeg4"
    page.click("#active .chip-remove")
    hits(page, 5)
    page.select_option("#filter-folder", "trips")
    hits(page, 1)
    assert said(page)["folder"] == ["trips"]
    page.select_option("#filter-folder", "")
    page.fill("#filter-least", "600")
    page.press("#filter-least", "Tab")
    page.wait_for_selector("text=No video passes the filters")
    page.click("text=Search without filters")
    hits(page, 5)
    page.fill("#filter-where", "video_id = 'first'")
    page.press("#filter-where", "Enter")
    hits(page, 1)
    page.fill("#filter-where", "video_id ==== 1")
    page.press("#filter-where", "Enter")
    page.wait_for_selector("[role=alert]:has-text('SQL')")


def test_the_way_back_and_forward(site, open_page):
    page = open_page(f"{site.url}?q=a+dog")
    hits(page, 5)
    page.check("#by input[value=moment]", force=True)
    until(page, "document.querySelectorAll('.hit').length > 5")
    page.select_option("#sort", "video")
    until(page, "location.search.includes('sort=video')")
    page.go_back()
    until(page, "document.querySelector('#sort').value === 'fit'")
    page.go_back()
    hits(page, 5)
    page.go_forward()
    until(page, "document.querySelectorAll('.hit').length > 5")
    assert page.is_checked("#by input[value=moment]")


def test_a_picture_is_looked_for_alone_and_with_words(site, open_page):
    page = open_page(site.url)
    page.set_input_files("#picture-file", {"name": "sun.jpg", "mimeType": "image/jpeg", "buffer": jpeg()})
    hits(page, 5)
    assert "sun.jpg" in page.inner_text("#parts")
    alone = page.locator(".hit .score").all_inner_texts()
    page.fill("#query", "a dog")
    until(page, "before => document.querySelector('.hit .score')?.textContent !== before", alone[0])
    page.click("#parts .chip-remove")
    until(page, "!location.search.includes('picture')")
    hits(page, 5)


def test_a_picture_is_dropped(site, open_page):
    page = open_page(site.url, allowed="400")
    drop = """([bytes, name, type]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name, {type}));
      for (const event of ["dragenter", "dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(event, {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(drop, [list(jpeg()), "dropped.jpg", "image/jpeg"])
    hits(page, 5)
    assert "dropped.jpg" in page.inner_text("#parts")
    page.evaluate(drop, [list(b"no picture"), "text.jpg", "image/jpeg"])
    page.wait_for_selector(".notice.wrong")


def test_more_like_a_hit(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1")
    hits(page, 5)
    page.locator(".hit[data-video=first] .more-like").click()
    page.wait_for_selector("#parts .chip")
    hits(page, 5)
    assert said(page)["like"][0].startswith("first@")
    assert page.locator(".hit").first.get_attribute("data-video") == "first"


def test_the_line_moves_and_says_what_lies_below(site, open_page):
    page = open_page(f"{site.url}?q=a+dog")
    hits(page, 5)
    page.wait_for_selector("#cut-range")
    scores = page.locator(".hit .score").all_inner_texts()
    values = sorted(float(score.replace("−", "-")) for score in scores)
    page.fill("#cut-range", page.get_attribute("#cut-range", "max"))
    page.wait_for_selector("text=Nothing fits well")
    assert page.locator("#hits-below .hit").count() == 5
    middle = (values[1] + values[2]) / 2
    page.goto(f"{site.url}?q=a+dog&cut={middle}")
    page.wait_for_selector("text=2 hits below the line")
    assert page.locator("#hits .hit").count() == 3
    assert page.locator("#hits-below").is_hidden()
    page.click("#line button")
    assert page.locator("#hits-below .hit").count() == 2
    assert page.locator("#hits-below").is_visible()
    page.click("#cut-reset")
    until(page, "!location.search.includes('cut')")


def test_the_line_of_one_question_is_not_that_of_the_next(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1")
    hits(page, 5)
    page.locator(".hit[data-video=first] .more-like").click()
    page.wait_for_selector("#parts .chip")
    assert set(said(page)) == {"like"}
    page.goto(f"{site.url}?q=a+dog&like=first%404.00&cut=-1")
    hits(page, 5)
    page.click("#parts .chip-remove")
    until(page, "location.search === '?q=a+dog'")


def test_hits_of_a_picture_are_exported(site, open_page):
    page = open_page(site.url)
    page.set_input_files("#picture-file", {"name": "sun.jpg", "mimeType": "image/jpeg", "buffer": jpeg()})
    hits(page, 5)
    shown = page.locator("#hits .hit").count()
    page.click("#export summary")
    with page.expect_download() as download:
        page.click("#export [data-format=csv]")
    assert download.value.suggested_filename.endswith(".csv")
    assert len(download.value.path().read_text().strip().splitlines()) == 1 + (shown or 5)


@pytest.mark.parametrize("kind", ["csv", "json", "otio"])
def test_hits_are_exported(site, open_page, kind):
    page = open_page(f"{site.url}?q=a+dog")
    hits(page, 5)
    shown = page.locator("#hits .hit").evaluate_all("hits => hits.map(hit => hit.dataset.video)")
    page.click("#export summary")
    with page.expect_download() as download:
        page.click(f"#export [data-format={kind}]")
    text = download.value.path().read_text()
    assert download.value.suggested_filename.endswith(kind)
    for video in ("first", "trips/second", "old"):
        assert (f"/{video}." in text) == (video in shown)
    if kind != "csv":
        json.loads(text)


def test_the_index_view_shows_what_there_is(site, open_page):
    page = open_page(site.url)
    page.click("text=Index")
    page.wait_for_selector(".figure")
    assert said(page) == {"view": ["index"]}
    assert "5" in page.locator(".figure").first.inner_text()
    assert page.locator(".runs tbody tr").count() >= 1
    page.go_back()
    page.wait_for_selector("#query")
    assert page.locator("#index-view").is_hidden()


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", WIDE), ("light", NARROW)])
def test_nothing_in_the_way_of_a_screen_reader(site, open_page, scheme, size):
    page = open_page(site.url, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page.wait_for_selector(".landing")
    assert wrong_for_screen_readers(page) == []
    page.goto(f"{site.url}?q=a+dog&cut=0.9&min_duration_s=1&video=first&t=20")
    hits(page, 5)
    page.click("#filters-open")
    page.click("#filters summary")
    until(page, "document.querySelector('#player').videoWidth > 0")
    assert wrong_for_screen_readers(page) == []
    page.click("#help-open")
    assert wrong_for_screen_readers(page) == []
    page.goto(f"{site.url}?view=index")
    page.wait_for_selector(".figure")
    assert wrong_for_screen_readers(page) == []


def test_two_indexes_are_chosen_from_by_name_on_a_phone(site, open_page):
    with served(site.index, site.index) as url:
        page = open_page(f"{url}?like=first%404.00", viewport=NARROW)
        hits(page, 5)
        assert wrong_for_screen_readers(page) == []
        page.select_option("#index", "1")
        until(page, "location.search === '?index=1'")
        page.wait_for_selector(".landing")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_sticks_out(site, open_page, scheme):
    page = open_page(f"{site.url}?q=a+dog&by=moment&codec=h264", viewport=NARROW, color_scheme=scheme, has_touch=True)
    page.wait_for_selector(".hit")
    page.click("#filters-open")
    assert page.evaluate(NO_SCROLL)
    page.click("#filters-open")
    page.locator(".hit a.open").first.click()
    until(page, "document.querySelector('#player').videoWidth > 0")
    assert page.evaluate(NO_SCROLL)
    page.goto(f"{site.url}?view=index")
    page.wait_for_selector(".figure")
    assert page.evaluate(NO_SCROLL)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 380) == (scheme == "light")


def test_the_look_is_chosen_and_remembered(site, open_page):
    page = open_page(site.url, color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark != light


def test_everything_is_reached_by_keyboard(site, open_page):
    page = open_page(f"{site.url}?q=a+dog&cut=-1")
    hits(page, 5)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator(".hit").first
    assert first.evaluate("hit => hit.contains(document.activeElement)")
    page.keyboard.press("Enter")
    page.wait_for_selector("#watch:not([hidden])")
    page.keyboard.press("j")
    second = page.locator(".hit").nth(1).get_attribute("data-video")
    until(page, "id => new URLSearchParams(location.search).get('video') === id", second)
    page.keyboard.press("Escape")
    page.wait_for_selector("#watch", state="hidden")
    page.keyboard.press("?")
    assert page.locator("#help").evaluate("dialog => dialog.open")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("End")
    page.keyboard.type(" jk")
    assert page.input_value("#query") == "a dog jk"


def test_it_says_when_the_server_is_gone_and_goes_on_when_it_is_back(site, open_page):
    page = open_page(site.url, allowed="ERR_INTERNET_DISCONNECTED")
    page.wait_for_selector(".landing")
    page.context.set_offline(True)
    page.fill("#query", "a dog")
    page.wait_for_selector("#lost:not([hidden])")
    page.context.set_offline(False)
    hits(page, 5)
    assert page.locator("#lost").is_hidden()


def test_a_rate_is_said_once_it_is_known(site, open_page):
    page = open_page("about:blank")
    rates = [0.0, 12.34]

    def answer(route) -> None:
        told = route.fetch().json()
        told["runs"][0].update(live=True, rate=rates[0])
        route.fulfill(json=told)

    page.route("**/api/administration*", answer)
    page.goto(f"{site.url}?view=index")
    page.wait_for_selector(".going")
    assert "real time" not in page.inner_text("#index-view")
    rates.pop(0)
    page.wait_for_selector(".going:has-text('12.3 × real time')")


def test_what_is_being_encoded_is_followed_to_its_end(site, open_page):
    page = open_page("about:blank")
    answers = {"videos_done": 9}

    def answer(route) -> None:
        told = route.fetch().json()
        told["indexes"][0]["encoding"] = {**answers, "videos_of": 27} if answers else None
        route.fulfill(json=told)

    page.route("**/api/status", answer)
    page.goto(f"{site.url}?q=a+dog")
    page.wait_for_selector("text=Being encoded: 9 of 27 videos so far.")
    answers["videos_done"] = 12
    page.wait_for_selector("text=Being encoded: 12 of 27 videos so far.")
    assert page.locator("#notices progress").evaluate("bar => bar.value") == 12
    answers.clear()
    page.wait_for_selector(".being-encoded", state="detached")


def test_an_empty_index_says_once_that_it_is_being_encoded(site, open_page):
    page = open_page("about:blank")

    def answer(route) -> None:
        told = route.fetch().json()
        told["indexes"][0].update(videos=0, waiting="it is being made", encoding={"videos_done": 0, "videos_of": 27})
        route.fulfill(json=told)

    page.route("**/api/status", answer)
    page.route("**/api/search?*", lambda route: route.fulfill(json={**route.fetch().json(), "hits": []}))
    page.goto(f"{site.url}?q=a+dog")
    page.wait_for_selector(".being-encoded")
    assert page.locator(".being-encoded").count() == 1
    assert "It is being made." in page.inner_text("#notices")


def test_a_token_is_asked_for_until_it_is_given(site, open_page):
    with served(site.index, settings=AppSettings(token="open sesame")) as url:
        page = open_page(f"{url}?q=a+dog&cut=-1", allowed="401")
        page.wait_for_selector("#token[open]")
        for _ in range(3):
            page.keyboard.press("Escape")
        page.wait_for_selector("#token[open]")
        page.fill("#token-value", "open sesame")
        page.keyboard.press("Enter")
        hits(page, 5)
        assert page.locator("#token[open]").count() == 0
        page.close()


def test_a_token_is_asked_for(site, open_page):
    with served(site.index, settings=AppSettings(token="open sesame")) as url:
        page = open_page(f"{url}?q=a+dog&cut=-1", allowed="401")
        page.wait_for_selector("#token[open]")
        page.fill("#token-value", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-wrong:not([hidden])")
        page.fill("#token-value", "open sesame")
        page.keyboard.press("Enter")
        hits(page, 5)
        page.locator(".hit[data-video=first] a.open").click()
        until(page, "document.querySelector('#player').videoWidth > 0")
        page.close()
