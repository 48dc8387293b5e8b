"""POST /api/session: a token, given once, becomes the cookie that a `<video>` sends."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from qasir.app.guard import session_cookie, try_token


class Token(BaseModel):
    """What a client must know."""

    token: str = Field(max_length=4096)


class Session(BaseModel):
    """The cookie is set, where one is needed."""

    session: bool


def router() -> APIRouter:
    """To be served behind `Guard`, which knows the token."""
    routes = APIRouter()

    @routes.post(
        "/api/session",
        response_model=Session,
        summary="Gives the token, and gets the cookie",
    )
    async def begin(request: Request, given: Token) -> Response:
        refusal = try_token(request.scope, given.token.encode("utf-8", "surrogateescape"))
        if refusal:
            return refusal.answer()
        return JSONResponse({"session": True}, headers=session_cookie(request.scope))

    return routes
