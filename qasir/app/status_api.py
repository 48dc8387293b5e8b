"""`/api/status`, `/api/facets`, `/api/videos`, `/api/administration` and `/api/export`: what is served."""

from fastapi import APIRouter
from pydantic import BaseModel

from qasir.app.engine import Engine
from qasir.app.settings import AppSettings


class IndexStatus(BaseModel):
    """One of the indexes that are served. waiting: why it is not searched in its newest version, if it is not."""

    uri: str
    videos: int
    failed: int
    super_images: int
    version: int | None
    waiting: str | None


class Status(BaseModel):
    """What is served."""

    indexes: list[IndexStatus]


def router(engine: Engine, settings: AppSettings) -> APIRouter:
    routes = APIRouter(prefix="/api")

    @routes.get("/status")
    def status() -> Status:
        found = []
        for one in engine.followed:
            opened = one.opened
            found.append(
                IndexStatus(
                    uri=one.uri,
                    videos=0 if opened is None else len(opened.rows),
                    failed=0 if opened is None else opened.snapshot.videos_dataset.count_rows("status = 'failed'"),
                    super_images=0 if opened is None else opened.snapshot.images_dataset.count_rows(),
                    version=None if opened is None else opened.version,
                    waiting=one.problem,
                )
            )
        return Status(indexes=found)

    return routes
