"""`/api/search` and `/api/moments`: by text, place or picture, what fits best; and where in one video it does."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from qasir.app.answers import MomentsAnswer, SearchAnswer
from qasir.app.engine import Engine
from qasir.app.parameters import Asked, asked, asked_of_one, picture_of
from qasir.app.presenting import moments_answer, search_answer
from qasir.app.settings import AppSettings
from qasir.errors import QueryError

_BY_PICTURE = {
    "requestBody": {
        "description": "The bytes of a picture to search by.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
Parameters = Annotated[Asked, Depends(asked)]
OfOne = Annotated[Asked, Depends(asked_of_one)]
VideoId = Annotated[str, Query(description="The video's id.")]


def router(engine: Engine, settings: AppSettings) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["search"])

    def search(asked: Asked, picture: bytes | None) -> SearchAnswer:
        begun = time.perf_counter()
        view = engine.view(asked.index)
        question = asked.question(settings, view.columns, picture)
        if not question.parts:
            raise QueryError("nothing to search for: give a text (q), a place (like), or a picture by POST")
        found = engine.search_in(view, question)
        return search_answer(found, asked, engine.files, lambda: 1000 * (time.perf_counter() - begun))

    def moments(video_id: str, asked: Asked, picture: bytes | None) -> MomentsAnswer:
        view = engine.view(asked.index)
        line = engine.time_line(video_id, asked.question(settings, view.columns, picture), asked.index)
        return moments_answer(line, asked, engine.files)

    @routes.get("/search")
    def search_by_text(asked: Parameters) -> SearchAnswer:
        """The videos or moments that fit a text or a place in a video best."""
        return search(asked, None)

    @routes.post("/search", openapi_extra=_BY_PICTURE)
    async def search_by_picture(request: Request, asked: Parameters) -> SearchAnswer:
        """The same by a picture, alone or with a text or a place."""
        picture = await picture_of(request, settings.picture_bytes)
        return await run_in_threadpool(search, asked, picture)

    @routes.get("/moments")
    def moments_by_text(video_id: VideoId, asked: OfOne) -> MomentsAnswer:
        """A text or a place over the whole length of one video; without either, what is stored of it."""
        return moments(video_id, asked, None)

    @routes.post("/moments", openapi_extra=_BY_PICTURE)
    async def moments_by_picture(request: Request, video_id: VideoId, asked: OfOne) -> MomentsAnswer:
        """The same by a picture, alone or with a text or a place."""
        picture = await picture_of(request, settings.picture_bytes)
        return await run_in_threadpool(moments, video_id, asked, picture)

    return routes
