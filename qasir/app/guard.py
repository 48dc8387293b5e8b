"""Stands before the page and its API: who may ask, by which name, from which page, and how much.

Every request is refused unless it passes all of it; what is refused reaches no route. Nothing is held in memory that
grows with requests, and answers pass through as they come, so that videos stream.
"""

import html
from collections.abc import Mapping
from math import ceil
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qasir.app import limits
from qasir.app.door import Door
from qasir.app.errors import BusyError, TooLargeError
from qasir.app.hosts import Authority, is_own_origin, may_be_called, parse_authority
from qasir.app.limits import Slots, headers_of, promised_bytes, too_large
from qasir.app.settings import AppSettings

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}
METHODS = ("GET", "HEAD", "POST")
URL_BYTES = 32 << 10
SMALL_BODY_BYTES = 64 << 10
"""For whatever takes no picture."""
_UPLOADS = 16
"""Pictures that come at once; what is held of them in memory is bounded by it."""
KINDS = ("videos", "pictures", "page", "small bodies", "uploads", "all else")
"""Of requests, counted apart."""
_TAKES_PICTURES = ("/api/search", "/api/moments", "/api/export")
_STATIC_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")
_DOOR, _HOST = "qasir.door", "qasir.host"
"""Where a request's scope has them."""


class Refusal(Exception):
    """What is answered in place of the application."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers

    def answer(self) -> Response:
        return JSONResponse({"error": self.message}, self.status, self.headers)


class Guard:
    """An ASGI application around another one.

    Host: names of the loopback, addresses, and `settings.hosts`; anything else is 421. Requests that another site's
    page makes are 403, but for links to the page. With a token, all but the page and its static files is 401 without
    it. `settings.requests` at once of each kind (searches, pictures, videos, the page itself): 503 beyond. Bodies are
    read before, each kind of them with room of its own, so that those which come slowly keep no search waiting.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = frozenset(name.lower().removesuffix(".") for name in settings.hosts)
        self._door = Door(settings.token)
        self._slots = Slots(settings.requests, {"uploads": _UPLOADS})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _with_headers(send, route_of(scope)))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = headers_of(scope)
            token = _take_token(scope)
            most = self._check(scope, headers)
            if token is not None and route_of(scope) in ("/", "") and not self._door.is_open:
                await self._enter(scope, token)(scope, receive, send)
                return
            self._check_token(scope, headers)
            if _may_have_body(scope, headers):
                body = await self._body(receive, headers, most)
                if body is None:  # its client has left
                    return
                receive = limits.after(body, receive)
            with self._slots.one(_kind(route_of(scope))):
                await self._app(scope, receive, send)
        except Refusal as refusal:
            await refusal.answer()(scope, receive, send)
        except BusyError as error:
            await Refusal(503, str(error), {"Retry-After": "1"}).answer()(scope, receive, send)

    async def _body(self, receive: Receive, headers: Mapping[bytes, list[bytes]], most: int) -> bytes | None:
        """None when the client has left. Raises Refusal and BusyError."""
        promised = promised_bytes(headers)
        is_small = (most if promised is None else promised) <= SMALL_BODY_BYTES
        with self._slots.one("small bodies" if is_small else "uploads"):
            try:
                if is_small:
                    return await limits.body_of(receive, min(most, SMALL_BODY_BYTES), limits.SMALL_BODY_S)
                return await limits.body_of(receive, most, limits.BODY_S)
            except TooLargeError as error:
                raise Refusal(413, str(error), {"Connection": "close"}) from None

    def _check(self, scope: Scope, headers: Mapping[bytes, list[bytes]]) -> int:
        """The most bytes that its body may have. Raises Refusal, without a look at the token."""
        if scope["method"] not in METHODS:
            raise Refusal(405, f"{scope['method']} is not answered", {"Allow": ", ".join(METHODS)})
        scope[_HOST] = host = self._host(headers)
        _check_site(scope, headers, host)
        _check_url(scope, self._settings.query_characters)
        takes_picture = scope["method"] == "POST" and route_of(scope) in _TAKES_PICTURES
        most = self._settings.picture_bytes if takes_picture else SMALL_BODY_BYTES
        try:
            promised = promised_bytes(headers)
        except ValueError as error:
            raise Refusal(400, str(error), {"Connection": "close"}) from None
        if promised is not None and promised > most:
            raise Refusal(413, too_large(most), {"Connection": "close"})
        scope[_DOOR] = self._door
        return most

    def _host(self, headers: Mapping[bytes, list[bytes]]) -> Authority:
        values = headers.get(b"host", [])
        if len(values) != 1:
            raise Refusal(400, "a request names one host")
        host = parse_authority(values[0].decode("latin-1"))
        if host is None:
            raise Refusal(400, "the Host header is no name or address")
        if not may_be_called(host.name, self._hosts):
            raise Refusal(421, f"this server is not called {host.name}")
        return host

    def _check_token(self, scope: Scope, headers: Mapping[bytes, list[bytes]]) -> None:
        """Raises Refusal when it takes a token and none is there, or a wrong one."""
        route = route_of(scope)
        is_public = route in ("/", "", "/api/session") or route.startswith("/static/")
        if self._door.is_open or is_public:
            return
        if self._door.knows_session(headers.get(b"cookie", ()), scope[_HOST].port):
            return
        given = headers.get(b"authorization", [])
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer":
            raise Refusal(401, "this needs the server's token", {"WWW-Authenticate": "Bearer"})
        refusal = try_token(scope, token.strip())
        if refusal:
            raise refusal

    def _enter(self, scope: Scope, token: bytes) -> Response:
        """Sets the cookie, and goes on to the address without the token.

        Not by a redirect: after a link on another site the browser would send no SameSite=Strict cookie along.
        """
        refusal = try_token(scope, token)
        if refusal:
            raise refusal
        query = quote_from_bytes(scope["query_string"], safe="%&=+-._~!*'()/:@,;?")
        address = html.escape("./" + (f"?{query}" if query else ""))
        page = (
            '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>qasir</title>\n'
            f'<meta http-equiv="refresh" content="0; url={address}">\n'
            f'<p><a href="{address}">Go on to the page</a></p>\n'
        )
        return HTMLResponse(page, headers={**session_cookie(scope), "Cache-Control": "no-store"})


def try_token(scope: Scope, token: bytes) -> Refusal | None:
    """Of a request that came through `Guard`: why this token does not let it in, or None if it does."""
    door: Door = scope[_DOOR]
    address = (scope.get("client") or ("", 0))[0]
    wait_s = door.wait_s(address)
    if wait_s > 0:
        return Refusal(429, "too many wrong tokens: wait a minute", {"Retry-After": str(ceil(wait_s))})
    if door.knows(token, address):
        return None
    return Refusal(401, "that is not the server's token", {"WWW-Authenticate": "Bearer"})


def session_cookie(scope: Scope) -> dict[str, str]:
    """The header that sets the cookie, for a request through `Guard` that knew the token; none where none is needed."""
    door: Door = scope[_DOOR]
    if door.is_open:
        return {}
    is_secure = scope["scheme"] == "https" or b"https" in headers_of(scope).get(b"x-forwarded-proto", [])
    return {"Set-Cookie": door.cookie(scope[_HOST].port, secure=is_secure)}


def route_of(scope: Scope) -> str:
    """The path below where the application is mounted, percent-decoded, as Starlette takes it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and (path + "/").startswith(root + "/") else path


def _kind(route: str) -> str:
    """What shares the room for requests: a page of pictures or an open video takes none from searches, and searches
    none from the page."""
    first = route.split("/", 2)[1] if "/" in route else ""
    if first in ("", "static") or route == "/api/session":
        return "page"
    return {"media": "videos", "clips": "videos", "frames": "pictures", "thumbnails": "pictures"}.get(first, "all else")


def _may_have_body(scope: Scope, headers: Mapping[bytes, list[bytes]]) -> bool:
    return scope["method"] == "POST" or bool(promised_bytes(headers)) or b"transfer-encoding" in headers


def _take_token(scope: Scope) -> bytes | None:
    """The value of `token` in the query string, which is without it from then on: in access logs too, which are written
    from the same scope."""
    parts = scope["query_string"].split(b"&")
    names = [unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")) for part in parts]
    if b"token" not in names:
        return None
    value = parts[names.index(b"token")].partition(b"=")[2]
    scope["query_string"] = b"&".join(part for part, name in zip(parts, names, strict=True) if name != b"token")
    return unquote_to_bytes(value.replace(b"+", b" "))


def _check_site(scope: Scope, headers: Mapping[bytes, list[bytes]], host: Authority) -> None:
    """Raises Refusal for what a page of another site asks for. Browsers say so; what is no browser says nothing."""

    def said(name: bytes) -> str | None:
        values = headers.get(name)
        return b",".join(values).decode("latin-1") if values else None

    site = said(b"sec-fetch-site")
    origin = said(b"origin")
    is_link = scope["method"] == "GET" and route_of(scope) in ("/", "") and origin is None
    is_link = is_link and (said(b"sec-fetch-mode"), said(b"sec-fetch-dest")) == ("navigate", "document")
    if site not in (None, "same-origin", "none") and not is_link:
        raise Refusal(403, "another site's page asked for this")
    if origin is None or (origin == "null" and site == "same-origin"):
        return  # with no-referrer, a form of the own page has the origin null
    if not is_own_origin(origin, host):
        raise Refusal(403, "another site's page asked for this")


def _check_url(scope: Scope, query_characters: int) -> None:
    """Raises Refusal for what is too long or no path of ours."""
    query: bytes = scope["query_string"]
    route = route_of(scope)
    if len(scope.get("raw_path") or scope["path"].encode()) + len(query) > URL_BYTES:
        raise Refusal(414, f"the address is longer than {URL_BYTES:,} bytes")
    if "\0" in route or (route != "" and not route.startswith("/")):
        raise Refusal(400, "that is no path")
    if route.startswith("/static") and not _is_plain(route):
        raise Refusal(404, "there is no such file")
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise Refusal(400, "the address has more than 200 parameters") from None
    is_api = route.startswith("/api/")  # the page tells it itself
    if is_api and any(name == "q" and len(value) > query_characters for name, value in pairs):
        raise Refusal(400, f"q: a query has at most {query_characters:,} characters")


def _is_plain(route: str) -> bool:
    parts = route.split("/")[1:]
    return set(route) <= _STATIC_CHARACTERS and all(part and not part.startswith(".") for part in parts)


def _with_headers(send: Send, route: str) -> Send:
    is_api = route == "/api" or route.startswith("/api/")

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            if is_api:
                headers["Cache-Control"] = "no-store"
            headers.setdefault("Cache-Control", "private, no-cache")
        await send(message)

    return guarded
