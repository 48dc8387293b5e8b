"""`/api/status`, `/api/facets`, `/api/videos`, `/api/administration` and `/api/export`: what is served."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from lance import LanceDataset

import qasir.app.ids  # noqa: F401  which says what an id in a path is
from qasir.app import links
from qasir.app.administration import Administration, Administrator, Encoding
from qasir.app.engine import Engine
from qasir.app.errors import NotFoundError
from qasir.app.facets import MethodFacet, Number, VideoFacets, hybrid_numbers, method_facets, video_facets
from qasir.app.file_states import FileState
from qasir.app.following import Followed, Opened
from qasir.app.per_version import PerVersion
from qasir.app.presenting import title_of
from qasir.app.rows import date_of
from qasir.app.settings import AppSettings
from qasir.errors import NoIndexError
from qasir.index.filters import quote
from qasir.index.schemas import ENCODED, FAILED
from qasir.index.trouble import named
from qasir.retrieval.methods.attention import Attention

NumberOfIndex = Annotated[int, Query(ge=0, description="Number of the index among those served.")]
_NOT_TOLD = ("embedding",)


@dataclass(frozen=True)
class IndexStatus:
    """One of the indexes that are served, in the version that is searched. videos: that can be searched. waiting: why
    nothing or an older version is searched, null where all is well. encoding: the job that is writing it."""

    uri: str
    videos: int
    failed: int
    super_images: int
    version: int | None
    waiting: str | None
    encoding: Encoding | None


@dataclass(frozen=True)
class Status:
    """The indexes, by their numbers."""

    indexes: list[IndexStatus]


@dataclass(frozen=True)
class IndexName:
    """name: the last part of the uri, with what tells it apart."""

    uri: str
    name: str


@dataclass(frozen=True)
class Facets(VideoFacets):
    """What the videos can be filtered and ranked by. columns: of `videos`, for SQL. hybrid: how the two indexes are
    searched together, and the numbers it has of its own."""

    columns: list[str]
    allow_sql: bool
    methods: list[MethodFacet]
    default_method: str
    hybrid: str | None
    hybrid_numbers: list[Number]
    indexes: list[IndexName]


@dataclass(frozen=True)
class VideoColumns:
    """A row of `videos` (docs/tables.md) without the embedding. What an older index does not say is null."""

    video_id: str
    uri: str
    size_bytes: int | None
    fingerprint: str
    duration_s: float | None
    width: int | None
    height: int | None
    fps: float | None
    codec: str | None
    n_sampled: int | None
    n_super_images: int | None
    decode_errors: int | None
    status: str
    error_kind: str | None
    error: str | None
    encoded_at: datetime
    failed_fingerprint: str | None
    attempts: int | None
    modified_at: datetime | None
    recorded_at: datetime | None
    media_offset_s: float | None


@dataclass(frozen=True)
class VideoRow(VideoColumns):
    """What an index has of a video. title: the last part of its id. date: when it was recorded, else when its file was
    changed. problem: why it cannot be searched or shown, then media is null; or that the file is another one by now."""

    title: str
    date: datetime | None
    date_kind: str | None
    media: str | None
    problem: str | None


_COLUMNS = [field.name for field in fields(VideoColumns)]


def router(engine: Engine, settings: AppSettings) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["index"])
    administrators = [Administrator(one.uri) for one in engine.followed]
    failed = [PerVersion(_failed) for _ in engine.followed]
    facets_of = [PerVersion(video_facets) for _ in engine.followed]

    @routes.get("/status")
    def status() -> Status:
        """What is served, and how far it is."""
        return Status(
            [
                _status(one, engine.waiting(number), failed[number], administrators[number].encoding())
                for number, one in enumerate(engine.followed)
            ]
        )

    @routes.get("/facets")
    def facets(index: NumberOfIndex = 0) -> Facets:
        """What hits can be filtered and ranked by, counted over the videos of an index."""
        opened = engine.view(index).opened
        with named(engine.followed[index].uri):
            found = _facets(opened, facets_of[index])
        return Facets(
            **found,
            allow_sql=settings.allow_sql,
            default_method=_default_method(engine, opened),
            hybrid=engine.hybrid,
            hybrid_numbers=[] if engine.hybrid is None else hybrid_numbers(engine.hybrid),
            indexes=_names([one.uri for one in engine.followed]),
        )

    @routes.get("/videos/{video_id:id}")
    def video(video_id: str, index: NumberOfIndex = 0) -> VideoRow:
        """The row of a video, encoded or failed."""
        opened = engine.view(index).opened
        rows = []
        if opened is not None:
            names = [name for name in opened.snapshot.videos_dataset.schema.names if name in _COLUMNS]
            rows = opened.snapshot.videos(names, f"video_id = {quote(video_id)}").to_pylist()
        if not rows:
            raise NotFoundError(f"no video {video_id!r} in {engine.followed[index].uri}")
        return _video(rows[0], index, None if rows[0]["status"] != ENCODED else _state(engine, video_id, index))

    @routes.get("/administration")
    def administration(index: NumberOfIndex = 0) -> Administration:
        """For whoever runs the index: failures, runs, versions."""
        engine.view(index)
        return administrators[index].look()

    return routes


def _status(followed: Followed, waiting: str | None, failed: PerVersion[int], encoding: Encoding | None) -> IndexStatus:
    opened = followed.opened
    if opened is None:
        return IndexStatus(followed.uri, 0, 0, 0, None, waiting, encoding)
    return IndexStatus(
        uri=followed.uri, videos=len(opened.rows), failed=failed.of(opened.snapshot.videos_dataset),
        super_images=_n_super_images(opened), version=opened.version, waiting=waiting, encoding=encoding,
    )  # fmt: skip


def _n_super_images(opened: Opened) -> int:
    try:
        return int(opened.side.vectors.videos().n_super_images.sum())
    except NoIndexError:  # nothing is encoded yet
        return 0


def _failed(videos: LanceDataset) -> int:
    return int(videos.count_rows(f"status = {quote(FAILED)}"))


def _facets(opened: Opened | None, counted: PerVersion[VideoFacets]) -> dict[str, Any]:
    """Of an index that is being made, nothing."""
    if opened is None:
        return {**_fields(VideoFacets([], [], None, None)), "columns": [], "methods": []}
    videos = opened.snapshot.videos_dataset
    return {
        **_fields(counted.of(videos)),
        "columns": [name for name in videos.schema.names if name not in _NOT_TOLD],
        "methods": method_facets(opened.snapshot.spec, opened.snapshot.uri),
    }


def _fields(one: VideoFacets) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in fields(one)}


def _default_method(engine: Engine, opened: Opened | None) -> str:
    own = Attention.name if opened is None else opened.side.default.asked_as()
    return engine.ranking.aggregation or own


def _names(uris: Sequence[str]) -> list[IndexName]:
    """As many of the last parts of each as tell it from the others."""
    parts = [uri.split("/") for uri in uris]
    for n in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(set(uris)):
            break
    return [IndexName(uri, name) for uri, name in zip(uris, names, strict=True)]


def _state(engine: Engine, video_id: str, index: int) -> FileState:
    (state,) = engine.files.of([engine.video(video_id, index)])
    return state


def _video(row: dict[str, Any], index: int, state: FileState | None) -> VideoRow:
    """state: of the file; None of a video that failed, which is nowhere shown."""
    known: dict[str, Any] = {name: row.get(name) for name in _COLUMNS}
    when, kind = date_of(known["recorded_at"], known["modified_at"])
    problem = known["error"] if state is None else state.problem
    if state is not None:
        known["media_offset_s"] = state.media_offset_s
    return VideoRow(
        **known, title=title_of(known["video_id"]), date=when, date_kind=kind,
        media=links.media(known["video_id"], index) if state is not None and state.is_there else None, problem=problem,
    )  # fmt: skip
