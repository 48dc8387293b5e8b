"""Puts the page together: routes, what guards them, and how errors are told."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from qasir.app.errors import BusyError, NotFoundError, TooLargeError, UnsearchableError
from qasir.errors import QasirError, StorageError, UnknownVideoError

_STATIC = Path(__file__).parent / "static"


def make_app(routers: Sequence[APIRouter]) -> FastAPI:
    """The page at `/`, what it loads under `/static/`, and the routes of the API."""
    app = FastAPI(
        title="qasir", summary="Finds the moment you mean in a pile of long videos.", docs_url=None, redoc_url=None
    )
    for router in routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    @app.exception_handler(QasirError)
    def refused(request: Request, error: QasirError) -> JSONResponse:
        return _said(_status(error), str(error))

    @app.exception_handler(RequestValidationError)
    def misspelt(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = next((part for part in reversed(first["loc"]) if isinstance(part, str)), "request")
        return _said(400, f"{name}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        return _said(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    def stumbled(request: Request, error: Exception) -> JSONResponse:  # which then goes on into the server's log
        return _said(500, "the server stumbled over this request; its log says more")

    return app


def _status(error: QasirError) -> int:
    if isinstance(error, NotFoundError | UnknownVideoError):
        return 404
    if isinstance(error, TooLargeError):
        return 413
    if isinstance(error, BusyError | StorageError | UnsearchableError):
        return 503
    return 400


def _said(status: int, what: str) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": what}, status, headers)
