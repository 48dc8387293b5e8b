"""The endpoint that gives clips of videos."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from qasir.app.bodies import Body, headers_only, ranged
from qasir.app.cache import Cache
from qasir.app.clips import ClipError, Clips, Making, Wanted, chunks, content_disposition
from qasir.app.errors import BusyError, NotFoundError
from qasir.app.files import BYTES, KEPT, PAST_THE_END_S, SAFE, Files, Index, Seconds, changed, etag_of
from qasir.app.settings import AppSettings
from qasir.app.sources import Source, StoredFile

_WAITING = 16
"""Clients that may wait for a clip to begin."""
_CLIP: dict[int | str, dict[str, Any]] = {
    **BYTES,
    200: {"content": {"video/mp4": {}}, "description": "The clip, as it is made, or whole."},
}


def router(files: Files, cache: Cache, settings: AppSettings) -> APIRouter:
    """/clips. The cache keeps them."""
    clips = Clips(cache, settings.clips)
    joiners = anyio.CapacityLimiter(_WAITING)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(clips.close)

    routes = APIRouter(lifespan=lifespan)

    async def begun(wanted: Wanted) -> Making:
        """A clip of which there are bytes; to be left."""
        if joiners.statistics().tasks_waiting >= _WAITING:
            raise BusyError("too many clips are asked for: ask again in a second")
        making = await anyio.to_thread.run_sync(clips.joined, wanted, limiter=joiners)
        try:
            await making.news(0)
            if making.size == 0 and making.problem is not None:
                raise making.problem
        except BaseException:
            clips.left(making)
            raise
        return making

    @routes.head("/clips/{video_id:id}", include_in_schema=False)
    @routes.get("/clips/{video_id:id}", responses=_CLIP, response_class=Response)
    async def clip(
        request: Request, video_id: str, start: Seconds, end: Seconds, download: bool = False, index: Index = 0
    ) -> Response:
        """A stretch of a video with its sound as fragmented MP4 (H.264, AAC) of at most 720 lines, sent while it is
        made. Its time 0 is `start`. Once it is complete, ranges are answered."""
        source = await files.looked_at(video_id, index)
        wanted = _wanted(source, start, end, settings.clip_s)
        headers = {**SAFE, **changed(source), "Content-Type": "video/mp4"}
        if download:
            headers["Content-Disposition"] = content_disposition(wanted)
        path = clips.finished(wanted)
        if path is not None:
            with suppress(FileNotFoundError):  # it had to go a moment ago
                stored = await anyio.to_thread.run_sync(StoredFile, path, limiter=files.lookers)
                kept = {**headers, **KEPT}
                return ranged(request, stored, etag=etag_of(wanted.key), headers=kept, readers=files.readers)
        headers["Cache-Control"] = "no-store"
        if request.method == "HEAD":
            return headers_only(headers)
        making = await begun(wanted)
        return Body(chunks(making, files.readers), partial(clips.left, making), headers=headers)

    return routes


def _wanted(source: Source, start: float, end: float, longest_s: float) -> Wanted:
    video = source.video
    if not start < end:
        raise ClipError(f"a clip ends after it starts, and not at {end:.3f} s when it starts at {start:.3f} s")
    if end - start > longest_s:
        raise ClipError(f"a clip of {end - start:,.0f} s is too long: the limit is {longest_s:,.0f} s")
    if start >= video.duration_s + PAST_THE_END_S:
        raise NotFoundError(f"{video.video_id} ends at {video.duration_s:.3f} s: there is no clip from {start:.3f} s")
    start_ms = round(start * 1000)
    return Wanted(video.video_id, video.uri, source.fingerprint, start_ms, max(start_ms + 1, round(end * 1000)))
