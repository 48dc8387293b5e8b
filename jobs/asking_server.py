"""Asks a running search page (jobs/serve_search.py) by its JSON API, instead of opening an index: no model is loaded
here, and nothing is imported but Python's own library."""

import ipaddress
import json
import mimetypes
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from qasir.errors import QueryError, ServerError
from qasir.files.credentials import redacted
from qasir.files.readable import reason

TOKEN = "QASIR_TOKEN"
"""The environment variable of the token that a server may ask for."""
_WAIT_S = 60.0
"""For a server that says nothing."""
_MOST_BYTES = 64 << 20
_UNKNOWN_PICTURE = "image/x-unknown"


@dataclass(frozen=True)
class ServedHit:
    """A hit of a server's answer; facts are all that it says of it. video_score: of a moment only."""

    video_id: str
    score: float
    start_s: float
    end_s: float
    video_score: float | None
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "ServedHit":
        score, start_s, end_s = (float(facts[name]) for name in ("score", "start_s", "end_s"))
        of_video = facts.get("video_score")
        return cls(str(facts["video_id"]), score, start_s, end_s, None if of_video is None else float(of_video), facts)


@dataclass(frozen=True)
class ServedHits:
    """What a server answers to a search. facts: what it says besides the hits."""

    hits: list[ServedHit]
    exact: bool
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Server:
    """A search page by its address, which may have a path before the page's own. token: what it asks for, if
    anything."""

    url: str
    token: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str, token: str | None = None) -> "Server":
        """token: None takes that of the environment. Raises QueryError for an address or a token that cannot be
        one."""
        shown = redacted(url)
        try:
            parts = urlsplit(url)
            named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            named = False
        if not (named and url.isascii() and url.isprintable() and " " not in url):
            raise QueryError(f"server {shown!r}: give its address, http://127.0.0.1:8765 say")
        if "@" in parts.netloc:
            raise QueryError(f"server {shown}: leave out what stands before the @, and give a token by {TOKEN}")
        token = token or os.environ.get(TOKEN) or None
        if token is not None and not (token.isascii() and token.isprintable()):
            raise QueryError(f"the token for {shown} has characters that no token has: give it as the server has it")
        return cls(urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")), token)

    def search(self, asked: Sequence[tuple[str, str]], picture: Path | None = None) -> ServedHits:
        """asked: the parameters of the API's search, as names and values. Raises ServerError, which names the address,
        when there is no answer, or none of a search page, or one that says what is wrong; QueryError for a picture that
        cannot be read."""
        address = f"{self.url}/api/search?{urlencode(asked)}"
        request = urllib.request.Request(address, headers={"Accept": "application/json"})
        if picture is not None:
            request.data = _read(picture)
            request.add_header("Content-Type", _kind_of(picture))
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        answer = self._answer(request)
        try:
            hits = [ServedHit.of(hit) for hit in answer.pop("hits")]
            return ServedHits(hits, bool(answer.pop("exact")), answer)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self._no_page("its answer has no hits") from None

    def _answer(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with self._opener().open(request, timeout=_WAIT_S) as response:
                return self._object(response.read(_MOST_BYTES + 1))
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except urllib.error.URLError as error:
            why = error.reason if isinstance(error.reason, Exception) else error
            raise ServerError(f"cannot reach the server {self.url}: {reason(why)}") from None
        except (OSError, HTTPException) as error:
            raise ServerError(f"the server {self.url} gave no answer: {reason(error)}") from None

    def _opener(self) -> urllib.request.OpenerDirector:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if _is_loopback(urlsplit(self.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))  # no proxy reaches what listens on this machine only
        return urllib.request.build_opener(*handlers)

    def _refusal(self, error: urllib.error.HTTPError) -> ServerError:
        """What the server says is wrong; or, if it says nothing that a search page would, that it is none."""
        if 300 <= error.code < 400:
            return ServerError(f"the server {self.url} sends on to another address: give that one")
        try:
            said = self._object(error.read(_MOST_BYTES + 1)).get("error")
        except (OSError, HTTPException, ServerError):
            said = None
        if not isinstance(said, str):
            return self._no_page(f"HTTP {error.code}")
        help_with = f"; give its token by {TOKEN}" if error.code == 401 and self.token is None else ""
        return ServerError(f"the server {self.url} says: {said}{help_with}")

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body) if len(body) <= _MOST_BYTES else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._no_page("its answer is no JSON of a search page")
        return found

    def _no_page(self, why: str) -> ServerError:
        return ServerError(f"no search page of qasir answers at {self.url}: {why}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the server that was named and to no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _read(picture: Path) -> bytes:
    try:
        return picture.read_bytes()
    except (OSError, ValueError) as error:
        raise QueryError(
            f"the picture {picture} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _kind_of(picture: Path) -> str:
    """By its name; the server looks at the bytes."""
    kind = mimetypes.guess_type(picture.name)[0]
    return kind if kind is not None and kind.startswith("image/") else _UNKNOWN_PICTURE


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
