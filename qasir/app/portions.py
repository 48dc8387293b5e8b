"""Has videos asked for piece by piece, for a server in front that takes answers faster than its client does."""

import re
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qasir.app.guard import Refusal, route_of

PORTION_BYTES = 8 << 20
"""The longest range that is answered. A browser asks for the next one when it has played this one."""
WHOLE_BYTES = 64 << 20
"""The largest file that is answered whole."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Portions:
    """An ASGI application around another one. A range of a video is cut to `portion` bytes, which HTTP allows the
    answer to be; a whole file of more than `whole` is refused (413), since its client can ask for ranges.

    Ray Serve, say, holds in memory what a replica has answered and the client has not yet taken: a paused video would
    lie there whole.
    """

    def __init__(self, app: ASGIApp, portion: int = PORTION_BYTES, whole: int = WHOLE_BYTES) -> None:
        self._app = app
        self._portion = portion
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not route_of(scope).startswith("/media/"):
            await self._app(scope, receive, send)
            return
        bounded = _Bounded(send, self._whole)
        try:
            await self._app(_with_range(scope, self._portion), receive, bounded)
        except Exception:
            if not bounded.is_refused:
                raise
        if bounded.is_refused:
            message = f"it is larger than {self._whole:,} bytes: ask for ranges of it"
            await Refusal(413, message).answer()(scope, receive, send)


def _with_range(scope: Scope, portion: int) -> Scope:
    """A request whose range is no longer than `portion`; without one where it is none, or several."""
    headers = [(name, value) for name, value in scope["headers"] if bytes(name).lower() != b"range"]
    asked = _RANGE.fullmatch(Headers(scope=scope).get("range", ""))
    if asked is not None and asked[1]:
        last = min(int(asked[2] or 10**18), int(asked[1]) + portion - 1)
        headers.append((b"range", f"bytes={int(asked[1])}-{last}".encode()))
    elif asked is not None and asked[2]:
        headers.append((b"range", f"bytes=-{min(int(asked[2]), portion)}".encode()))
    return {**scope, "headers": headers}


class _Bounded:
    """`send` that takes no whole file of more than `whole` bytes: as if its client were gone."""

    def __init__(self, send: Send, whole: int) -> None:
        self._send = send
        self._whole = whole
        self.is_refused = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.is_refused = self._is_too_large(message)
        if self.is_refused:
            raise ConnectionAbortedError("the answer is too large to be sent whole")
        await self._send(message)

    def _is_too_large(self, message: Message) -> bool:
        return message["status"] == 200 and int(Headers(raw=message["headers"]).get("content-length", 0)) > self._whole
