"""`/api/search` and `/api/moments`: parses a request, asks the engine, and answers as `qasir.app.answers` says."""

import time
from typing import Annotated

from fastapi import APIRouter, Query

from qasir.app import links
from qasir.app.answers import SearchAnswer, SearchHit
from qasir.app.engine import Engine, Found
from qasir.app.question import By, Question, Sort
from qasir.app.rows import date_of
from qasir.app.settings import AppSettings
from qasir.retrieval.asking import Like, Part
from qasir.retrieval.hits import Hit, MomentHit


def router(engine: Engine, settings: AppSettings) -> APIRouter:
    routes = APIRouter(prefix="/api")

    @routes.get("/search")
    def search(
        q: str = "",
        like: str | None = None,
        top_k: Annotated[int, Query(ge=1, le=200)] = 20,
        by: By = "video",
        per_video: Annotated[int, Query(ge=1)] = 3,
        where: str | None = None,
        sort: Sort = "fit",
        index: int = 0,
    ) -> SearchAnswer:
        begun = time.perf_counter()
        parts: list[Part] = [q] if q or like is None else []
        parts += [Like.parse(like)] if like is not None else []
        question = Question(tuple(parts), top_k, by, per_video, where=where, sort=sort)
        found = engine.search(question, index)
        return SearchAnswer(
            query=q, exact=found.exact, by=by, index=index,
            version=None if found.view.opened is None else found.view.opened.version,
            left_out=0 if found.view.searcher is None else len(found.view.searcher.left_out),
            took_ms=1000 * (time.perf_counter() - begun),
            method=None if found.method is None else found.method.sentence(),
            cutoff=None, hits=[_hit(found, hit, index) for hit in found.hits],
        )  # fmt: skip

    return routes


def _hit(found: Found, hit: Hit, index: int) -> SearchHit:
    assert found.view.opened is not None
    video = found.view.opened.rows.get(hit.video_id)
    date, kind = (None, None) if video is None else date_of(video)
    at_s = (hit.start_s + hit.end_s) / 2
    return SearchHit(
        video_id=hit.video_id, uri=hit.uri, score=hit.score, start_s=hit.start_s, end_s=hit.end_s, at_s=at_s,
        media_offset_s=0.0, thumbnail=links.frame(hit.video_id, at_s, index), media=links.media(hit.video_id, index),
        video_score=hit.video_score if isinstance(hit, MomentHit) else None,
        title=hit.video_id.rpartition("/")[2], date=None if date is None else date.isoformat(), date_kind=kind,
        duration_s=0.0 if video is None else video.duration_s, codec=None if video is None else video.codec,
        width=None if video is None else video.width, height=None if video is None else video.height,
        above_cutoff=True, problem=None, placeholder=links.thumbnail(hit.video_id, at_s, index), frames=[],
    )  # fmt: skip
