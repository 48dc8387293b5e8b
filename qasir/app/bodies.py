"""Answers with bytes that are read while they are sent, and stops reading when the client is gone."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Protocol

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qasir.app.ranges import Part, UnsatisfiableError, asked_part, holds, matches

CHUNK_BYTES = 512 << 10
"""What is read, and held in memory, of a body at once."""


class Readable(Protocol):
    """What a body is read from; its reads block."""

    size: int

    def read(self, start: int, n_bytes: int) -> bytes: ...

    def close(self) -> None: ...


class Body(Response):
    """Sends the chunks of an iterator, then closes what they were read from, whatever happens."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        close: Callable[[], object],
        *,
        status: int = 200,
        headers: Mapping[str, str],
        is_head: bool = False,
    ) -> None:
        super().__init__(None, status)
        del self.headers["content-length"]
        self.headers.update(headers)
        self._chunks = chunks
        self._close = close
        self._is_head = is_head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stop_when_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(stop_when_gone)
                with suppress(OSError):  # how a server says that nobody listens any more
                    await self._send(send)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._close)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not self._is_head:
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def headers_only(headers: Mapping[str, str]) -> Response:
    """The answer to a HEAD of a body whose length nobody knows yet."""
    answer = Response(headers=dict(headers))
    del answer.headers["content-length"]
    return answer


def ranged(
    request: Request, source: Readable, *, etag: str, headers: Mapping[str, str], readers: anyio.CapacityLimiter
) -> Response:
    """The answer to a GET or HEAD of a whole file or of a part of it. The source is closed when it is sent.

    readers: how many bodies are read from at the same moment; others wait, without a thread.
    """
    every = {**headers, "ETag": etag, "Accept-Ranges": "bytes"}
    if matches(request.headers.get("if-none-match"), etag):
        source.close()
        return Response(status_code=304, headers=every)
    part = None
    is_head = request.method == "HEAD"
    try:
        if not is_head and holds(request.headers.get("if-range"), etag):
            part = asked_part(request.headers.get("range"), source.size)
    except UnsatisfiableError:
        source.close()
        return Response(status_code=416, headers={**every, "Content-Range": f"bytes */{source.size}"})
    status = 200 if part is None else 206
    if part is None:
        part = Part(0, source.size - 1)
    else:
        every["Content-Range"] = part.content_range(source.size)
    every["Content-Length"] = str(part.length)
    return Body(_chunks(source, part, readers), source.close, status=status, headers=every, is_head=is_head)


async def _chunks(source: Readable, part: Part, readers: anyio.CapacityLimiter) -> AsyncIterator[bytes]:
    at = part.first
    while at <= part.last:
        wanted = min(CHUNK_BYTES, part.last + 1 - at)
        chunk = await anyio.to_thread.run_sync(source.read, at, wanted, limiter=readers)
        if not chunk:
            raise EOFError("the file became shorter while it was sent")
        at += len(chunk)
        yield chunk
