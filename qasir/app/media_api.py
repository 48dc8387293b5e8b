"""Endpoints that give the videos themselves: files, pictures of frames, thumbnails and clips.

Only what the catalogue has is ever opened: an id is looked up there, and the path comes from the row.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Request
from fastapi.responses import Response

from qasir.app import clips_api, frames_api
from qasir.app.bodies import ranged
from qasir.app.cache import Cache
from qasir.app.catalogue import Catalogue
from qasir.app.errors import NotFoundError
from qasir.app.files import BYTES, SAFE, Files, Index, changed
from qasir.app.settings import AppSettings


def router(catalogue: Catalogue, settings: AppSettings) -> APIRouter:
    """/media, /frames, /thumbnails and /clips of the videos of a catalogue.

    A file that is not the one that was indexed is given all the same, with the header `X-Qasir-Changed: true`.
    """
    files = Files(catalogue)
    cache = Cache(settings.cache_bytes)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        yield
        cache.close()

    routes = APIRouter(lifespan=lifespan, tags=["video"])

    @routes.head("/media/{video_id:id}", include_in_schema=False)
    @routes.get("/media/{video_id:id}", responses=BYTES, response_class=Response)
    async def media(request: Request, video_id: str, index: Index = 0) -> Response:
        """The file of a video as it is; answers ranges."""
        source = await files.opened(video_id, index)
        if not source.has_bytes:
            raise NotFoundError(f"{video_id} is a folder of pictures, not one file: ask for a clip")
        kind = {"Content-Type": source.content_type, "Cache-Control": "private, no-cache"}
        headers = {**SAFE, **changed(source), **kind}
        return ranged(request, source, etag=f'"{source.fingerprint}"', headers=headers, readers=files.readers)

    routes.include_router(frames_api.router(files, cache))
    routes.include_router(clips_api.router(files, cache, settings))
    return routes
