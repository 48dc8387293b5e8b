"""How much of everything at once: requests, and bytes of a body."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.types import Message, Receive, Send

from qasir.app.errors import BusyError, TooLargeError

BODY_S = 60.0
"""A body that has not come in this time is given up, in seconds."""


class Slots:
    """So many at once of each kind, counted apart: open videos leave room for searches. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[str, int] = {}

    @contextmanager
    def one(self, kind: str) -> Iterator[None]:
        """Takes one of a kind for the time of a `with`. Raises BusyError when all are taken."""
        if self._taken.get(kind, 0) >= self._most:
            raise BusyError(f"the server works on {self._most} requests of this kind already: try again")
        self._taken[kind] = self._taken.get(kind, 0) + 1
        try:
            yield
        finally:
            self._taken[kind] -= 1


class BoundedBody:
    """`receive` that raises TooLargeError once more than `most` bytes came, or the body took too long, whatever its
    headers promised. What the application then makes of that is not sent: `error` is to be told in its place."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive = receive
        self._send = send
        self._most = most
        self._bytes = 0
        self._until: float | None = None
        self._complete = False
        self.has_answered = False
        self.error: TooLargeError | None = None

    async def receive(self) -> Message:
        if self.error:
            raise self.error
        if self._complete:
            return await self._receive()
        self._until = self._until or asyncio.get_running_loop().time() + BODY_S
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.error = TooLargeError(f"the body did not come within {BODY_S:g} seconds")
            raise self.error from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            self.error = TooLargeError(too_large(self._most))
            raise self.error
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self.error and not self.has_answered:
            return
        self.has_answered = True
        await self._send(message)


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
