import asyncio
import json
import logging
import re
import socket

import pytest
from fastapi.testclient import TestClient

from qasir.app.door import WRONG_S, WRONG_TOKENS
from qasir.app.guard import SECURITY_HEADERS, URL_BYTES, Guard
from qasir.app.settings import AppSettings
from tests.qasir.app.guarded import TOKEN, behind, serving

HERE = {"host": "localhost:8765"}


def client(**settings) -> TestClient:
    return TestClient(
        Guard(behind(), AppSettings(**settings)), base_url="http://localhost:8765", follow_redirects=False
    )


@pytest.fixture(scope="module")
def open_client():
    return client()


@pytest.fixture
def closed():
    return client(token=TOKEN)


def asked(guard, *, host=("localhost",), headers=(), bodies=(b"",), **scope):
    """(status, headers, body) of an ASGI request made by hand. headers: pairs of bytes, after those of host."""
    sent = []
    pieces = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    pieces[-1]["more_body"] = False

    async def receive():
        return pieces.pop(0) if pieces else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    given = [*((b"host", name.encode()) for name in host), *headers]
    asked_for = {"type": "http", "method": "GET", "path": "/api/search", "query_string": b"q=a", "scheme": "http"}
    asyncio.run(guard({**asked_for, "headers": given, "client": ("127.0.0.1", 5000), **scope}, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, body


def test_it_answers_to_its_own_names():
    guard = Guard(behind(), AppSettings(hosts=("Videos.example.",)))
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:8765", "10.1.2.3", "videos.EXAMPLE.:443"):
        assert asked(guard, host=[host])[0] == 200, host
    for host in ("evil.example", "evil.example:8765", "x.videos.example", "localhost.evil.example"):
        status, headers, body = asked(guard, path="/", host=[host])
        assert status == 421, host
        assert "is not called" in json.loads(body)["error"]
        assert headers["x-content-type-options"] == "nosniff"


def test_no_host_and_two_are_refused():
    guard = Guard(behind(), AppSettings())
    for hosts in ([], ["localhost"] * 2, ["localhost", "evil.example"], ["user@localhost"], [""], ["\xff"]):
        status, _, body = asked(guard, host=hosts)
        assert status == 400, hosts
        assert "error" in json.loads(body)


OTHER_SITES = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    {"sec-fetch-site": "cross-site, none"},
    {"sec-fetch-site": ""},
    {"origin": "http://evil.example"},
    {"origin": "http://localhost:8766"},
    {"origin": "http://localhost"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://localhost:8765.evil.example"},
    {"origin": "http://localhost:8765@evil.example"},
    {"origin": "http://localhost:8765, http://evil.example"},
    {"origin": "null", "sec-fetch-site": "none"},
    {"origin": "http://localhost:8765", "sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("said", OTHER_SITES)
@pytest.mark.parametrize("ask", ["get", "post"])
def test_what_another_sites_page_asks_for_is_refused(open_client, said, ask):
    answer = getattr(open_client, ask)("/api/search", headers=said)
    assert answer.status_code == 403
    assert "error" in answer.json()
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin", "origin": "http://localhost:8765"},
        {"sec-fetch-site": "same-origin", "origin": "null"},
    ],
)
def test_its_own_page_and_what_is_no_browser_are_answered(open_client, said):
    assert open_client.post("/api/search", headers=said, content=b"abc").json() == {"bytes": 3}


LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def test_a_link_leads_to_the_page_alone(open_client):
    assert open_client.get("/?q=a", headers=LINK).status_code == 200
    assert open_client.get("/", headers={**LINK, "sec-fetch-dest": "iframe"}).status_code == 403
    assert open_client.get("/", headers={**LINK, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert open_client.post("/", headers=LINK).status_code == 403
    for path in ("/static/index.html", "/api/search", "/media/a.mp4", "/openapi.json"):
        assert open_client.get(path, headers=LINK).status_code == 403


def test_no_preflight_is_answered(open_client):
    asks = {"origin": "http://localhost:8765", "access-control-request-method": "POST"}
    answer = open_client.options("/api/search", headers=asks)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "PROPFIND"])
def test_other_methods_are_refused(method):
    status, headers, _ = asked(Guard(behind(), AppSettings()), method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD, POST")


def test_a_token_is_needed_for_all_but_the_page(closed):
    for path in ("/api/search?q=a", "/media/a.mp4", "/openapi.json", "/static", "/nothing", "/api/session/x"):
        answer = closed.get(path)
        assert answer.status_code == 401, path
        assert "token" in answer.json()["error"]
        assert answer.headers["www-authenticate"] == "Bearer"
    assert closed.get("/").status_code == 200
    assert closed.get("/static/index.html").status_code == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (b"Bearer " + TOKEN.encode(), 200),
        (b"bearer  " + TOKEN.encode() + b" ", 200),
        (TOKEN.encode(), 401),
        (b"Basic " + TOKEN.encode(), 401),
        (b"Bearer", 401),
        (b"Bearer ", 401),
        (b"Bearer " + TOKEN.encode("latin-1"), 401),
        (b"Bearer " + TOKEN.encode() + b"\0", 401),
        (b"Bearer " + TOKEN.encode()[:-1], 401),
        (b"Bearer \xff\xfe\0", 401),
        (b"Bearer " + b"a" * 10_000, 401),
    ],
)
def test_a_bearer_token_is_compared_byte_by_byte(given, status):
    assert asked(Guard(behind(), AppSettings(token=TOKEN)), headers=[(b"authorization", given)])[0] == status


def test_two_bearer_tokens_are_none():
    bearer = (b"authorization", b"Bearer " + TOKEN.encode())
    assert asked(Guard(behind(), AppSettings(token=TOKEN)), headers=[bearer, bearer])[0] == 401


def test_the_token_arrives_once_and_becomes_a_cookie(closed):
    address = {"token": TOKEN, "q": 'a "<b>', "t": "3.5", "like": "x@1"}
    answer = closed.get("/", params=address, headers=LINK)
    assert answer.status_code == 200, "a redirect would go without the cookie after a link on another site"
    (onward,) = re.findall(r'<meta http-equiv="refresh" content="0; url=(.*?)">', answer.text)
    assert onward.replace("&amp;", "&") == "./?q=a+%22%3Cb%3E&t=3.5&like=x%401"
    assert "töken" not in answer.text
    assert "<script" not in answer.text
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"qasir_session_8765=[0-9a-f]{64}; Max-Age=\d+; Path=/; HttpOnly; SameSite=Strict", cookie)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert closed.get("/api/search?q=a").status_code == 200
    other = client(token=TOKEN + "x")
    other.cookies = closed.cookies
    assert other.get("/api/search?q=a").status_code == 401, "another token's cookie"


@pytest.mark.parametrize("query", ["token=", "token", "token=no&q=a", "token=%00", "token=%ff", f"token={'a' * 9999}"])
def test_a_wrong_token_in_the_address_is_refused(closed, query):
    answer = closed.get(f"/?{query}")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("query", ["q=a&token=x", "t%6fken=x&q=a", "token=x&q=a&token=y"])
def test_no_route_and_no_log_sees_a_token_in_the_address(closed, query):
    assert client().get(f"/api/search?{query}").json()["query"] == "q=a"
    assert closed.get(f"/api/search?token={TOKEN}").status_code == 401, "only where the page is"
    assert client().get("/?token=x").status_code == 200, "no token is needed"


def test_a_query_becomes_no_markup(closed):
    query = b"token=a+t%C3%B6ken+%26+more%3D1&q=\"><script>alert(1)</script>&x=\xff'"
    status, _, body = asked(Guard(behind(), AppSettings(token=TOKEN)), path="/", query_string=query)
    assert status == 200
    assert b"<script" not in body
    assert b"q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&amp;x=%FF&#x27;" in body


def test_a_session_begins_by_post(closed):
    assert closed.post("/api/session", json={"token": "wrong"}).status_code == 401
    for wrong in ({}, {"token": 3}, {"token": None}, [], {"token": "a" * 5000}):
        assert closed.post("/api/session", json=wrong).status_code == 400
    assert closed.post("/api/session", content=b'{"token": "\\ud800"}').status_code in (400, 401)
    assert closed.post("/api/session", content=b"x" * 70_000).status_code == 413
    assert closed.post("/api/session", json={"token": TOKEN}, headers={"origin": "http://x.example"}).status_code == 403
    assert closed.get("/api/search?q=a").status_code == 401
    answer = closed.post("/api/session", json={"token": TOKEN})
    assert (answer.status_code, answer.json()) == (200, {"session": True})
    assert closed.get("/api/search?q=a").status_code == 200
    assert "/api/session" in closed.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("scope", "headers", "secure"),
    [({"scheme": "https"}, [], True), ({}, [(b"x-forwarded-proto", b"https")], True), ({}, [], False)],
)
def test_the_cookie_is_for_https_alone_where_it_came_so(scope, headers, secure):
    guard = Guard(behind(), AppSettings(token="t"))
    _, answered, _ = asked(guard, path="/", query_string=b"token=t", headers=headers, **scope)
    assert answered["set-cookie"].endswith("; Secure") == secure


def test_too_many_wrong_tokens_are_429_and_cookies_go_on(closed):
    closed.post("/api/session", json={"token": TOKEN})
    cookies = dict(closed.cookies)
    closed.cookies.clear()
    for _ in range(30):
        closed.get("/api/search?q=a", headers={"cookie": "qasir_session_8765=old"})
    for _ in range(WRONG_TOKENS):
        assert closed.get("/api/search?q=a", headers={"authorization": "Bearer x"}).status_code == 401
    for answer in (closed.get("/", params={"token": TOKEN}), closed.post("/api/session", json={"token": TOKEN})):
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= WRONG_S
    closed.cookies.update(cookies)
    assert closed.get("/api/search?q=a").status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/static/index.html", "/api/search?q=a", "/media/a.mp4", "/nothing", "/static/nothing"]
)
def test_every_answer_says_what_browsers_may_do_with_it(open_client, path):
    headers = open_client.get(path).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["cache-control"] == "no-store") == path.startswith("/api")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../application.py",
        "/static/..%2fapplication.py",
        "/static/%2e%2e/application.py",
        "/static/%2e%2e%2fapplication.py",
        "/static/%252e%252e/application.py",
        "/static/..\\application.py",
        "/static/..%5capplication.py",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/index.html%00.js",
        "/static/index.html%0d%0aX: y",
        "/static/.hidden",
        "/static/./index.html",
        "/static/index.html/",
        "/static//",
        "/static..",
        "/static%2f..%2f..%2fguard.py",
        "/staticindex.html",
        "/STATIC/index.html",
        "//static/index.html",
        "/api/../static/index.html/../../guard.py",
    ],
)
def test_no_path_leads_out_of_the_static_files(served, path):
    for port in served:
        status, body = raw(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert status in (400, 401, 404), path
        assert b"import" not in body


def test_an_id_may_have_any_character_but_nul(open_client):
    assert open_client.get("/media/a%2F..%5C%2F%2Fb%09%F0%9F%98%80").json()["path"].startswith("/media/")
    assert open_client.get("/media/a%00b").status_code == 400
    assert open_client.get("/%00").status_code == 400


def test_what_is_too_long_is_refused():
    guard = client(query_characters=1000)
    assert guard.get("/api/search", params={"q": "é" * 1000}).status_code == 200
    for query in ({"q": "a" * 1001}, {"q": ["a", "b" * 10_000]}):
        answer = guard.get("/api/search", params=query)
        assert (answer.status_code, answer.json()["error"]) == (400, "q: a query has at most 1,000 characters")
    assert guard.get(f"/api/search?%71={'a' * 1001}").status_code == 400
    assert guard.post("/api/search?q=" + "a" * 1001).status_code == 400
    assert guard.get("/api/search?where=" + "a" * URL_BYTES).status_code == 414
    assert guard.get("/media/" + "a" * URL_BYTES).status_code == 414
    assert guard.get("/?q=" + "a" * 1500).status_code == 200, "the page, which tells it"
    assert guard.get("/api/search?" + "&".join(f"x{i}=1" for i in range(201))).status_code == 400


def many(pieces, size):
    return [b"x" * size] * pieces


@pytest.mark.parametrize(
    ("headers", "bodies", "status"),
    [
        ([], many(10, 100), 200),
        ([(b"content-length", b"1000")], many(10, 100), 200),
        ([(b"content-length", b"1001")], many(1, 1001), 413),
        ([(b"content-length", b"10")], many(11, 100), 413),
        ([], many(11, 100), 413),
        ([(b"transfer-encoding", b"chunked")], many(11, 100), 413),
        ([(b"content-length", b"10"), (b"content-length", b"10")], many(1, 10), 400),
        ([(b"content-length", b"10"), (b"transfer-encoding", b"chunked")], many(1, 10), 400),
        ([(b"content-length", b"-1")], many(1, 10), 400),
        ([(b"content-length", b"1e3")], many(1, 10), 400),
        ([(b"content-length", b"9" * 5000)], many(1, 10), 400),
        ([(b"content-length", b"")], many(1, 10), 400),
    ],
)
def test_a_body_is_bounded_whatever_its_headers_promise(headers, bodies, status):
    guard = Guard(behind(), AppSettings(picture_bytes=1000))
    answered, _, body = asked(guard, method="POST", headers=headers, bodies=bodies)
    assert answered == status
    assert ("error" in json.loads(body)) == (status != 200)


@pytest.mark.parametrize(("path", "limit"), [("/api/search", "BODY_S"), ("/api/session", "SMALL_BODY_S")])
def test_a_body_that_does_not_come_is_given_up(monkeypatch, path, limit):
    monkeypatch.setattr(f"qasir.app.limits.{limit}", 0.05)
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "scheme": "http"}
    asyncio.run(Guard(behind(), AppSettings())({**scope, "headers": [(b"host", b"[::1]")]}, receive, send))
    assert sent[0]["status"] == 413
    assert b"did not come" in sent[1]["body"]


def test_bodies_that_come_slowly_keep_nothing_else_waiting():
    async def run():
        guard = Guard(behind(), AppSettings(requests=20, token=TOKEN))
        bearer = [(b"host", b"[::1]"), (b"authorization", b"Bearer " + TOKEN.encode())]

        async def status(method, path, headers, receive):
            sent = []

            async def send(message):
                sent.append(message)

            scope = {"type": "http", "method": method, "path": path, "query_string": b"q=a", "scheme": "http"}
            await guard({**scope, "headers": headers, "client": ("127.0.0.1", 1)}, receive, send)
            return sent[0]["status"]

        async def slowly():
            await asyncio.Event().wait()

        async def empty():
            return {"type": "http.request", "body": b"", "more_body": False}

        slow = [("/api/session", [(b"host", b"[::1]"), (b"content-length", b"1000")])] * 20
        slow += [("/api/search", [*bearer, (b"content-length", b"1000000")])] * 16
        tasks = [asyncio.create_task(status("POST", *one, slowly)) for one in slow]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        for path in ("/", "/static/index.html", "/api/search", "/media/a"):
            assert await status("GET", path, bearer, slowly) == 200, path
        for path, headers in slow[::20]:
            assert await status("POST", path, headers, slowly) == 503
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await status("POST", "/api/search", bearer, empty) == 200, "given back"

    asyncio.run(run())


def test_so_many_requests_at_once_and_videos_apart():
    """Answers are held back until all are asked."""

    async def run():
        go_on = asyncio.Event()

        async def held(scope, receive, send):
            await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        guard = Guard(held, AppSettings(requests=2))
        answers: dict[str, list] = {}

        def ask(path):
            async def send(message):
                if message["type"] == "http.response.start":
                    answers.setdefault(path.split("/")[1], []).append(message)

            scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "scheme": "http"}
            return asyncio.create_task(guard({**scope, "headers": [(b"host", b"[::1]")]}, None, send))

        tasks = [
            ask(path) for path in ("/media/a", "/api/search", "/clips/a", "/media/b", "/api/search", "/api/search")
        ]
        tasks += [ask("/frames/a"), ask("/thumbnails/a"), ask("/frames/b")]
        await asyncio.sleep(0.05)
        assert {kind: [answer["status"] for answer in of_kind] for kind, of_kind in answers.items()} == {
            "media": [503],
            "api": [503],
            "frames": [503],
        }
        assert (b"retry-after", b"1") in answers["api"][0]["headers"]
        go_on.set()
        await asyncio.gather(*tasks)
        answers.clear()
        await asyncio.gather(ask("/media/a"), ask("/media/b"), ask("/api/search"))
        assert [answer["status"] for of_kind in answers.values() for answer in of_kind] == [200] * 3, "given back"

    asyncio.run(run())


def test_an_answer_streams_and_an_error_in_it_gives_its_place_back():
    async def run():
        async def breaks(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            raise ConnectionResetError

        guard = Guard(breaks, AppSettings(requests=1))
        scope = {"type": "http", "method": "GET", "path": "/media/a", "query_string": b"", "scheme": "http"}
        for _ in range(3):
            sent = []

            async def send(message, sent=sent):
                sent.append(message)

            with pytest.raises(ConnectionResetError):
                await guard({**scope, "headers": [(b"host", b"[::1]")]}, None, send)
            assert [message.get("body") for message in sent] == [None, b"a"]

    asyncio.run(run())


def test_a_web_socket_is_closed():
    async def run():
        sent = []

        async def send(message):
            sent.append(message)

        await Guard(behind(), AppSettings())({"type": "websocket", "headers": []}, None, send)
        assert sent == [{"type": "websocket.close", "code": 1008}]

    asyncio.run(run())


@pytest.fixture(scope="module")
def served():
    """Ports of two real servers: one open, one with a token."""
    with serving(Guard(behind(), AppSettings())) as first, serving(Guard(behind(), AppSettings(token=TOKEN))) as second:
        yield first, second


def raw(port, request):
    """(status of the first answer, all bytes that came) for bytes sent as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/search HTTP/1.1\r\n",
        b"GET /api/search HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n",
        b"GET /api/search HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
        b"GET http://localhost/api/search HTTP/1.1\r\nHost: evil.example\r\n",
        b"GET /api/search HTTP/1.1\r\nHost: local\thost\r\n",
        b"GET /api/search HTTP/1.1\r\n Host: localhost\r\n",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 5\r\n",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n",
    ],
)
def test_a_smuggled_request_gets_no_answer(served, head):
    hidden = b"GET /api/search?q=hidden HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status, answers = raw(served[0], head + b"Connection: close\r\n\r\n" + hidden)
    assert status in (400, 421)
    assert b"q=hidden" not in answers


def test_an_upload_without_end_is_cut_off():
    with serving(Guard(behind(), AppSettings(picture_bytes=100_000))) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head)
            sent = 0
            with pytest.raises(OSError):  # noqa: PT011, PT012 - a reset or a broken pipe
                while sent < 100 << 20:
                    connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                    sent += 0x10000
        assert raw(port, b"GET /api/search?q=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200


def test_a_client_that_leaves_while_it_uploads_leaves_no_trace(served, caplog):
    with caplog.at_level(logging.WARNING):
        for path in ("search", "session"):
            with socket.create_connection(("127.0.0.1", served[0]), timeout=10) as connection:
                head = f"POST /api/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"
                connection.sendall(head.encode())
        raw(served[0], b"GET /api/search?q=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert caplog.records == []


def test_the_log_has_no_token(served, caplog):
    with caplog.at_level(logging.INFO):
        for line in ("GET /?token=S3CRET&q=a", "GET /api/search?q=a&t%6Fken=S3CRET", "POST /api/session?token=S3CRET"):
            raw(served[1], f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    logged = [record.getMessage() for record in caplog.records]
    assert any("/?q=a" in line for line in logged), logged
    assert not any("S3CRET" in line for line in logged)
