"""Endpoints that give the videos themselves: files, pictures of frames, thumbnails and clips.

Only what the catalogue has is ever opened: an id is looked up there, and the path comes from the row.
"""

import hashlib
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

import qasir.app.ids  # noqa: F401  which says what an id in a path is
from qasir.app.bodies import Body, headers_only, ranged
from qasir.app.cache import Cache
from qasir.app.catalogue import Catalogue, StoredVideo
from qasir.app.clips import ClipError, Clips, Wanted, chunks, content_disposition
from qasir.app.errors import BusyError, NotFoundError
from qasir.app.frames import Frames
from qasir.app.ranges import matches
from qasir.app.settings import AppSettings
from qasir.app.sources import Source, StoredFile
from qasir.files.stores import Stores

_READERS = 32
"""Files that are read from at the same moment; others wait."""
_FRAME_PROCESSES = max(1, min(4, os.cpu_count() or 1))
_WAITING_FRAMES = 512
"""Requests for frames that may wait; more are told to come again."""
_WAITING_CLIPS = 16
"""Clients that may wait for a clip to begin."""
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

_CLIP: dict[int | str, dict[str, Any]] = {
    **_BYTES,
    200: {"content": {"video/mp4": {}}, "description": "The clip, as it is made, or whole."},
}

Index = Annotated[int, Query(ge=0, description="Number of the index among those served.")]
Seconds = Annotated[
    float, Query(ge=0, le=1e7, allow_inf_nan=False, description="Seconds from the first displayed frame.")
]
Lines = Annotated[int, Query(ge=16, le=720, description="Lines of the picture, about; never more than the frame has.")]


def router(catalogue: Catalogue, settings: AppSettings) -> APIRouter:
    """/media, /frames, /thumbnails and /clips of the videos of a catalogue.

    A file that is not the one that was indexed is given all the same, with the header `X-Qasir-Changed: true`.
    """
    stores = Stores()
    cache = Cache(settings.cache_bytes)
    frames = Frames(_FRAME_PROCESSES)
    clips = Clips(cache, settings.clips)
    readers = anyio.CapacityLimiter(_READERS)
    lookers = anyio.CapacityLimiter(_READERS)
    painters = anyio.CapacityLimiter(_FRAME_PROCESSES)
    joiners = anyio.CapacityLimiter(_WAITING_CLIPS)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(clips.close)
        frames.close()
        cache.close()

    routes = APIRouter(lifespan=lifespan, tags=["video"])

    def opened(video_id: str, index: int) -> Source:
        return Source(catalogue.video(video_id, index), stores)

    def looked_at(video_id: str, index: int) -> Source:
        """A video's file as it is now, closed again."""
        source = opened(video_id, index)
        source.close()
        return source

    @routes.api_route("/media/{video_id:id}", methods=["GET", "HEAD"], responses=_BYTES, response_class=Response)
    async def media(request: Request, video_id: str, index: Index = 0) -> Response:
        """The file of a video as it is; answers ranges."""
        source = await anyio.to_thread.run_sync(opened, video_id, index, limiter=lookers)
        headers = {
            **_SAFE, **_changed(source), "Content-Type": source.content_type, "Cache-Control": "private, no-cache",
        }  # fmt: skip
        return ranged(request, source, etag=f'"{source.fingerprint}"', headers=headers, readers=readers)

    @routes.get("/frames/{video_id:id}", responses=_JPEG, response_class=Response)
    async def frame(request: Request, video_id: str, at: Seconds, height: Lines = 240, index: Index = 0) -> Response:
        """The frame on display at a second, upright and in its shape."""
        source = await anyio.to_thread.run_sync(looked_at, video_id, index, limiter=lookers)
        video, version = source.video, source.fingerprint
        if at > video.duration_s + _PAST_THE_END_S:
            raise NotFoundError(f"{video_id} ends at {video.duration_s:.3f} s: there is no frame at {at:.3f} s")
        lines, at_ms = next(each for each in _HEIGHTS if each >= height), math.floor(at * 1000 + 0.5)
        key = f"frame {video.uri} {version} {at_ms} {lines}"
        etag = _etag(key)
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

    @routes.get("/thumbnails/{video_id:id}", responses=_JPEG, response_class=Response)
    async def thumbnail(request: Request, video_id: str, at: Seconds, index: Index = 0) -> Response:
        """The small picture of a second that the index stores: there as long as the index is, file or not."""
        picture = await anyio.to_thread.run_sync(catalogue.thumbnail, video_id, at, index, limiter=lookers)
        etag = f'"{hashlib.sha256(picture).hexdigest()[:32]}"'
        if matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers={"ETag": etag, **_KEPT})
        return Response(picture, headers={"ETag": etag, **_KEPT, **_SAFE}, media_type="image/jpeg")

    @routes.api_route("/clips/{video_id:id}", methods=["GET", "HEAD"], responses=_CLIP, response_class=Response)
    async def clip(
        request: Request, video_id: str, start: Seconds, end: Seconds, download: bool = False, index: Index = 0
    ) -> Response:
        """A stretch of a video with its sound as fragmented MP4 (H.264, AAC) of at most 720 lines, sent while it is
        made. Its time 0 is `start`. Once it is complete, ranges are answered."""
        source = await anyio.to_thread.run_sync(looked_at, video_id, index, limiter=lookers)
        wanted = _clip_of(source.video, source.fingerprint, start, end, settings.clip_s)
        headers = {**_SAFE, **_changed(source), "Content-Type": "video/mp4"}
        if download:
            headers["Content-Disposition"] = content_disposition(wanted)
        path = clips.finished(wanted)
        if path is not None:
            with suppress(FileNotFoundError):  # it had to go a moment ago
                stored = await anyio.to_thread.run_sync(StoredFile, path, limiter=lookers)
                return ranged(request, stored, etag=_etag(wanted.key), headers={**headers, **_KEPT}, readers=readers)
        headers["Cache-Control"] = "no-store"
        if request.method == "HEAD":
            return headers_only(headers)
        if joiners.statistics().tasks_waiting >= _WAITING_CLIPS:
            raise BusyError("too many clips are asked for: ask again in a second")
        making = await anyio.to_thread.run_sync(clips.joined, wanted, limiter=joiners)
        await making.news(0)
        if making.size == 0 and making.problem is not None:
            clips.left(making)
            raise making.problem
        return Body(chunks(making, readers), partial(clips.left, making), headers=headers)

    return routes


def _changed(source: Source) -> dict[str, str]:
    return {"X-Qasir-Changed": "true"} if source.is_changed else {}


def _clip_of(video: StoredVideo, version: str, start: float, end: float, longest_s: float) -> Wanted:
    if not start < end:
        raise ClipError(f"a clip ends after it starts, and not at {end:.3f} s when it starts at {start:.3f} s")
    if end - start > longest_s:
        raise ClipError(f"a clip of {end - start:,.0f} s is too long: the limit is {longest_s:,.0f} s")
    if start >= video.duration_s + _PAST_THE_END_S:
        raise NotFoundError(f"{video.video_id} ends at {video.duration_s:.3f} s: there is no clip from {start:.3f} s")
    start_ms = round(start * 1000)
    return Wanted(video.video_id, video.uri, version, start_ms, max(start_ms + 1, round(end * 1000)))


def _etag(key: str) -> str:
    return f'"{hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]}"'
