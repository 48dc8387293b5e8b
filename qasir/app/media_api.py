"""Endpoints that give the videos themselves: files, pictures of frames, thumbnails and clips.

Only what the catalogue has is ever opened: an id is looked up there, and the path comes from the row.
"""

import hashlib
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from qasir.app.bodies import ranged
from qasir.app.cache import Cache
from qasir.app.catalogue import Catalogue, StoredVideo
from qasir.app.errors import BusyError, NotFoundError
from qasir.app.frames import Frames
from qasir.app.ranges import matches
from qasir.app.settings import AppSettings
from qasir.app.sources import Source
from qasir.files.stores import Stores

_READERS = 32
"""Files that are read from at the same moment; others wait."""
_FRAME_PROCESSES = max(1, min(4, os.cpu_count() or 1))
_WAITING_FRAMES = 512
"""Requests for frames that may wait; more are told to come again."""
_HEIGHTS = (90, 120, 180, 240, 360, 480, 720)
"""Frames are made this high, so that those asked for twice are made once."""
_PAST_THE_END_S = 1.0
_KEPT = {"Cache-Control": "private, max-age=600"}
_SAFE = {"X-Content-Type-Options": "nosniff"}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "A JPEG picture."},
    304: {"description": "Unchanged."},
}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/*": {}}, "description": "The whole file."},
    206: {"content": {"video/*": {}}, "description": "The range that was asked for."},
    304: {"description": "Unchanged."},
    416: {"description": "No byte of the file is in that range."},
}

Index = Annotated[int, Query(ge=0, description="Number of the index among those served.")]
Seconds = Annotated[
    float, Query(ge=0, le=1e7, allow_inf_nan=False, description="Seconds from the first displayed frame.")
]
Lines = Annotated[int, Query(ge=16, le=720, description="Lines of the picture, about; never more than the frame has.")]


def router(catalogue: Catalogue, settings: AppSettings) -> APIRouter:
    """/media, /frames and /thumbnails of the videos of a catalogue."""
    stores = Stores()
    cache = Cache(settings.cache_bytes)
    frames = Frames(_FRAME_PROCESSES)
    readers = anyio.CapacityLimiter(_READERS)
    lookers = anyio.CapacityLimiter(_READERS)
    painters = anyio.CapacityLimiter(_FRAME_PROCESSES)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        yield
        frames.close()
        cache.close()

    routes = APIRouter(lifespan=lifespan, tags=["video"])

    def opened(video_id: str, index: int) -> Source:
        return Source(catalogue.video(video_id, index), stores)

    def looked_at(video_id: str, index: int) -> tuple[StoredVideo, str]:
        """A video and the version that its file has now."""
        source = opened(video_id, index)
        source.close()
        return source.video, source.fingerprint

    @routes.api_route("/media/{video_id:path}", methods=["GET", "HEAD"], responses=_BYTES, response_class=Response)
    async def media(request: Request, video_id: str, index: Index = 0) -> Response:
        """The file of a video as it is; answers ranges."""
        source = await anyio.to_thread.run_sync(opened, video_id, index, limiter=lookers)
        headers = {**_SAFE, "Content-Type": source.content_type, "Cache-Control": "private, no-cache"}
        if source.is_changed:
            headers["X-Qasir-Changed"] = "true"
        return ranged(request, source, etag=f'"{source.fingerprint}"', headers=headers, readers=readers)

    @routes.get("/frames/{video_id:path}", responses=_JPEG, response_class=Response)
    async def frame(request: Request, video_id: str, at: Seconds, height: Lines = 240, index: Index = 0) -> Response:
        """The frame on display at a second, upright and in its shape."""
        video, version = await anyio.to_thread.run_sync(looked_at, video_id, index, limiter=lookers)
        if at > video.duration_s + _PAST_THE_END_S:
            raise NotFoundError(f"{video_id} ends at {video.duration_s:.3f} s: there is no frame at {at:.3f} s")
        lines, at_ms = next(each for each in _HEIGHTS if each >= height), math.floor(at * 1000 + 0.5)
        key = f"frame {video.uri} {version} {at_ms} {lines}"
        etag = f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"'
        if matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers={"ETag": etag, **_KEPT})
        picture = cache.get(key)
        if picture is None:
            if painters.statistics().tasks_waiting >= _WAITING_FRAMES:
                raise BusyError("too many frames are being made: ask again in a second")
            async with painters:
                if await request.is_disconnected():
                    return Response(status_code=499)
                picture = cache.get(key)
                if picture is None:
                    picture = await anyio.to_thread.run_sync(
                        frames.jpeg, video, version, at_ms, lines, limiter=anyio.CapacityLimiter(1)
                    )
                    cache.put(key, picture)
        return Response(picture, headers={"ETag": etag, **_KEPT, **_SAFE}, media_type="image/jpeg")

    @routes.get("/thumbnails/{video_id:path}", responses=_JPEG, response_class=Response)
    async def thumbnail(request: Request, video_id: str, at: Seconds, index: Index = 0) -> Response:
        """The small picture of a second that the index stores: there as long as the index is, file or not."""
        picture = await anyio.to_thread.run_sync(catalogue.thumbnail, video_id, at, index, limiter=lookers)
        etag = f'"{hashlib.sha256(picture).hexdigest()[:32]}"'
        if matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers={"ETag": etag, **_KEPT})
        return Response(picture, headers={"ETag": etag, **_KEPT, **_SAFE}, media_type="image/jpeg")

    return routes
