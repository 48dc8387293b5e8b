"""Puts the page together: routes, what guards them, and how errors are told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from qasir.app.errors import BusyError, NotFoundError, TooLargeError, UnsearchableError
from qasir.app.heads import Heads, allowed_methods
from qasir.errors import QasirError, StorageError, UnknownVideoError

_STATIC = Path(__file__).parent / "static"


class Error(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="One line for people.")


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": what}
    for status, what in {
        400: "It makes no sense, and the error says why.",
        401: "It needs the server's token.",
        403: "Another site's page asked for it.",
        404: "There is no such video, index or place in a video; or its file is gone.",
        413: "More bytes than are taken, or they came too slowly.",
        414: "The address is too long.",
        421: "The server is not called that.",
        429: "Too many wrong tokens: wait.",
        503: "The server is busy, or a store does not answer: ask again after `Retry-After` seconds.",
    }.items()
}
_SECURITY: dict[str, dict[str, str]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "The server's token, where it has one."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "qasir_session_PORT",
        "description": "What POST /api/session sets for whoever knows the token; PORT is that of the server.",
    },
}


class _Described(FastAPI):
    """With a description that tells errors as they are, and what a server with a token asks for."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            described = super().openapi()
            schemas = described.get("components", {}).get("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for operations in described["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            described.setdefault("components", {})["securitySchemes"] = _SECURITY
            described["security"] = [{}, *({name: []} for name in _SECURITY)]
            if session := described["paths"].get("/api/session"):
                session["post"]["security"] = []
        assert self.openapi_schema is not None
        return self.openapi_schema


def make_app(routers: Sequence[APIRouter]) -> FastAPI:
    """The page at `/`, what it loads under `/static/`, and the routes of the API."""
    app = _Described(
        title="qasir", summary="Finds the moment you mean in a pile of long videos.", docs_url=None, redoc_url=None,
        responses=_PROBLEMS,
    )  # fmt: skip
    app.add_middleware(Heads, router=app.router)
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
        answer = _said(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            answer.headers["Allow"] = ", ".join(allowed_methods(app.router, request.scope))
        return answer

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
