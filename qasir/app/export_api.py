"""`/api/export`: the hits of a search as a file to keep."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from fastapi.routing import APIRoute

from qasir.app.answers import SearchAnswer
from qasir.app.engine import Engine
from qasir.app.exporting import MEDIA_TYPES, Format, content_disposition, exported, selected
from qasir.index.filters import id_filter

FileFormat = Annotated[Format, Query(description="csv, json or otio.")]
Selection = Annotated[
    str | None, Query(description="Numbers of hits, from 1 in their order, with commas; all by default.")
]
_FILE = {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "A file."}


def router(engine: Engine, search: APIRouter) -> APIRouter:
    """search: the router of `/api/search`, whose parameters an export takes too."""
    routes = APIRouter(prefix="/api", tags=["search"])
    by_text, by_picture = (Depends(_endpoint(search, method)) for method in ("GET", "POST"))

    @routes.get("/export", responses={200: _FILE}, response_class=Response)
    def export(
        answer: Annotated[SearchAnswer, by_text], format: FileFormat = "csv", select: Selection = None
    ) -> Response:
        """The hits of a search, as a download: a table (CSV), JSON, or a time line for editors (OTIO)."""
        return _file(engine, answer, format, select)

    @routes.post("/export", responses={200: _FILE}, response_class=Response)
    def export_by_picture(
        answer: Annotated[SearchAnswer, by_picture], format: FileFormat = "csv", select: Selection = None
    ) -> Response:
        """The same of a search by a picture."""
        return _file(engine, answer, format, select)

    return routes


def _endpoint(search: APIRouter, method: str) -> Callable[..., Any]:
    (endpoint,) = (
        route.endpoint
        for route in search.routes
        if isinstance(route, APIRoute) and route.path == "/api/search" and method in (route.methods or ())
    )
    return endpoint


def _file(engine: Engine, answer: SearchAnswer, format: Format, select: str | None) -> Response:
    answer = selected(answer, select)
    fps = _fps(engine, answer.index, [hit.video_id for hit in answer.hits]) if format == "otio" else {}
    headers = {"Content-Disposition": content_disposition(answer.query, format)}
    return Response(exported(answer, format, fps), media_type=MEDIA_TYPES[format], headers=headers)


def _fps(engine: Engine, index: int, video_ids: Sequence[str]) -> dict[str, float | None]:
    opened = engine.view(index).opened
    if opened is None or not video_ids:
        return {}
    rows = opened.snapshot.videos(["video_id", "fps"], id_filter(sorted(set(video_ids))))
    return dict(zip(rows["video_id"].to_pylist(), rows["fps"].to_pylist(), strict=True))
