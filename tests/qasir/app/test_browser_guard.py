import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from qasir.app.guard import Guard
from qasir.app.settings import AppSettings
from tests.qasir.app.guarded import TOKEN, behind, serving

STATUS = "() => fetch('api/search?q=a').then(answer => answer.status)"
STEAL = "url => fetch(url).then(answer => answer.status, () => 'refused')"


@pytest.fixture(scope="module")
def page():
    """The port of a page that wants a token."""
    with serving(Guard(behind(), AppSettings(token=TOKEN))) as port:
        yield port


@pytest.fixture(scope="module")
def elsewhere(page):
    """The port of another site, with links to it."""
    site = FastAPI()

    @site.get("/")
    def links() -> HTMLResponse:
        token = "a%20t%C3%B6ken%20%26%20more%3D1"
        enter = f"<a id=enter href='http://localhost:{page}/?token={token}&q=a%20b&t=3'>enter</a>"
        return HTMLResponse(f"{enter}<a id=link href='http://localhost:{page}/?q=z'>link</a>")

    with serving(site) as port:
        yield port


def test_the_token_of_a_link_on_another_site_becomes_a_cookie_that_other_sites_cannot_use(page, elsewhere, chromium):
    context = chromium.new_context()
    context.set_default_timeout(20_000)
    tab = context.new_page()
    tab.goto(f"http://localhost:{page}/")
    assert tab.evaluate(STATUS) == 401
    tab.goto(f"http://127.0.0.1:{elsewhere}/")
    tab.click("#enter")
    tab.wait_for_url("**/?q=a%20b&t=3")
    assert tab.evaluate(STATUS) == 200
    assert tab.evaluate("document.cookie") == ""
    assert tab.evaluate("document.referrer") == ""
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    tab.go_back()
    assert tab.url == f"http://127.0.0.1:{elsewhere}/", "the address with the token is not in the history"
    assert tab.evaluate(STEAL, f"http://localhost:{page}/api/search?q=a") == "refused"
    tab.click("#link")
    tab.wait_for_url("**/?q=z")
    assert tab.evaluate(STATUS) == 200
    context.close()
