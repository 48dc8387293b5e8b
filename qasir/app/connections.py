"""Connections of the page's server: those that ask for nothing are closed, and there are only so many."""

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from qasir.app.guard import KINDS

HEADERS_S = 10.0
"""From the first moment of a connection, or the first byte of a further request, until its headers are there."""
_IDLE = 512
"""Connections beside those whose requests are worked on."""


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """One that is closed when the headers of a request take too long. Between requests the server itself has a limit.

    Only what comes before and after a request is watched: how long its body may take is the application's business.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADERS_S, self.transport.close)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def configured(page: ASGIApp, requests: int, **more: Any) -> uvicorn.Config:
    """A server of the page, which works on so many requests of each kind at once; as many connections as that takes,
    and some to spare: further ones are answered 503. more: arguments of `uvicorn.Config`."""
    return uvicorn.Config(
        page, log_config=None, access_log=False, server_header=False, lifespan="on", http=Connection,
        limit_concurrency=len(KINDS) * requests + _IDLE,
        proxy_headers=False,  # a client could give itself any address, and guess at tokens from each
        **more,
    )  # fmt: skip
