"""A page whose routes say what they were asked, behind the guard or on a real server."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from starlette.types import ASGIApp

from qasir.app.application import make_app
from qasir.app.session_api import router as session_router

TOKEN = "a töken & more=1"


def behind() -> FastAPI:
    """What stands behind the guard: it says what it was asked."""
    routes = APIRouter()

    @routes.get("/api/search")
    @routes.get("/media/{video_id:path}")
    def seen(request: Request) -> dict[str, str]:
        return {"path": request.url.path, "query": request.url.query}

    @routes.post("/api/search")
    async def body(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    return make_app([routes, session_router()])


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    """Its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="info", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()
