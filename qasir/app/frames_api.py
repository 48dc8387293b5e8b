"""Endpoints that give pictures: of the frame on display at a second, and the small ones that an index stores."""

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from qasir.app.cache import Cache
from qasir.app.catalogue import StoredVideo
from qasir.app.errors import BusyError, NotFoundError
from qasir.app.files import KEPT, PAST_THE_END_S, SAFE, Files, Index, Seconds, changed, etag_of
from qasir.app.frames import Frames
from qasir.app.ranges import matches

_PROCESSES = max(1, min(4, os.cpu_count() or 1))
_WAITING = 512
"""Requests for frames that may wait; more are told to come again."""
_HEIGHTS = (90, 120, 180, 240, 360, 480, 720)
"""Frames are made this high, so that those asked for twice are made once."""
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "A JPEG picture."},
    304: {"description": "Unchanged."},
}
_GONE = 499
"""What a client that has left is answered."""

Lines = Annotated[int, Query(ge=16, le=720, description="Lines of the picture, about; never more than the frame has.")]


def router(files: Files, cache: Cache) -> APIRouter:
    """/frames and /thumbnails. The cache keeps what was made."""
    frames = Frames(_PROCESSES)
    painters = anyio.CapacityLimiter(_PROCESSES)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        yield
        frames.close()

    routes = APIRouter(lifespan=lifespan)

    def made(key: str, video: StoredVideo, version: str, at_ms: int, lines: int) -> bytes:
        """A frame that was not there a moment ago."""
        picture = cache.get(key)
        if picture is None:
            picture = frames.jpeg(video, version, at_ms, lines)
            cache.put(key, picture)
        return picture

    @routes.get("/frames/{video_id:id}", responses=_JPEG, response_class=Response)
    async def frame(request: Request, video_id: str, at: Seconds, height: Lines = 240, index: Index = 0) -> Response:
        """The frame on display at a second, upright and in its shape."""
        source = await files.looked_at(video_id, index)
        _check_inside(source.video, at)
        lines, at_ms = next(each for each in _HEIGHTS if each >= height), math.floor(at * 1000 + 0.5)
        key = f"frame {source.video.uri} {source.fingerprint} {at_ms} {lines}"
        if (unchanged := _unchanged(request, etag_of(key))) is not None:
            return unchanged
        picture = await anyio.to_thread.run_sync(cache.get, key, limiter=files.lookers)
        if picture is None:
            if painters.statistics().tasks_waiting >= _WAITING:
                raise BusyError("too many frames are being made: ask again in a second")
            async with painters:
                if await request.is_disconnected():
                    return Response(status_code=_GONE)
                picture = await anyio.to_thread.run_sync(
                    made, key, source.video, source.fingerprint, at_ms, lines, limiter=anyio.CapacityLimiter(1)
                )
        return _picture(picture, etag_of(key), changed(source))

    @routes.get("/thumbnails/{video_id:id}", responses=_JPEG, response_class=Response)
    async def thumbnail(request: Request, video_id: str, at: Seconds, index: Index = 0) -> Response:
        """The small picture of a second that the index stores: there as long as the index is, file or not."""
        stored = files.catalogue.thumbnail
        picture = await anyio.to_thread.run_sync(stored, video_id, at, index, limiter=files.lookers)
        return _unchanged(request, etag_of(picture)) or _picture(picture, etag_of(picture), {})

    return routes


def _check_inside(video: StoredVideo, at: float) -> None:
    if at > video.duration_s + PAST_THE_END_S:
        raise NotFoundError(f"{video.video_id} ends at {video.duration_s:.3f} s: there is no frame at {at:.3f} s")


def _unchanged(request: Request, etag: str) -> Response | None:
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers={"ETag": etag, **KEPT})
    return None


def _picture(picture: bytes, etag: str, more: dict[str, str]) -> Response:
    return Response(picture, headers={"ETag": etag, **KEPT, **SAFE, **more}, media_type="image/jpeg")
