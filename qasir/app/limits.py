"""How much of everything at once: requests, and bytes of a body."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.types import Message, Receive

from qasir.app.errors import BusyError, TooLargeError

BODY_S = 60.0
"""A body that has not come in this time is given up, in seconds."""
SMALL_BODY_S = 5.0
"""The same of one of a few kilobytes."""


class Slots:
    """So many at once of each kind, counted apart: open videos leave room for searches. For one event loop.

    fewer: {kind: how many at once} of those that have less room.
    """

    def __init__(self, most: int, fewer: Mapping[str, int] | None = None) -> None:
        self._most = most
        self._fewer = fewer or {}
        self._taken: dict[str, int] = {}

    @contextmanager
    def one(self, kind: str) -> Iterator[None]:
        """Takes one of a kind for the time of a `with`. Raises BusyError when all are taken."""
        most = min(self._most, self._fewer.get(kind, self._most))
        if self._taken.get(kind, 0) >= most:
            raise BusyError(f"the server works on {most} requests of this kind already: try again")
        self._taken[kind] = self._taken.get(kind, 0) + 1
        try:
            yield
        finally:
            self._taken[kind] -= 1


async def body_of(receive: Receive, most: int, within_s: float) -> bytes | None:
    """The whole body of a request; None when its client has left. Raises TooLargeError once more than `most` bytes
    came, or it took too long, whatever its headers promised."""
    pieces: list[bytes] = []
    n_bytes = 0
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                pieces.append(message.get("body", b""))
                n_bytes += len(pieces[-1])
                if n_bytes > most:
                    raise TooLargeError(too_large(most))
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise TooLargeError(f"the body did not come within {within_s:g} seconds") from None


def after(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read before."""
    pieces = [body]

    async def received() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": False}
        return await receive()

    return received


def too_large(most: int) -> str:
    return f"the body is larger than the {most:,} bytes that are taken"


def promised_bytes(headers: Mapping[bytes, list[bytes]]) -> int | None:
    """By Content-Length; None where there is none. Raises ValueError if a request says its length in two ways."""
    lengths = headers.get(b"content-length", [])
    if len(lengths) > 1 or (lengths and b"transfer-encoding" in headers):
        raise ValueError("a request says its length once")
    if lengths and not (lengths[0].isdigit() and len(lengths[0]) < 16):
        raise ValueError("a length is a number")
    return int(lengths[0]) if lengths else None


def headers_of(scope: Mapping[str, Any]) -> dict[bytes, list[bytes]]:
    """{name in lower case: values in order} of an ASGI scope."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(bytes(name).lower(), []).append(bytes(value))
    return found
