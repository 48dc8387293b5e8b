"""Answers HEAD for whatever answers GET, and says which methods a path answers."""

from starlette.routing import Match, Mount, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Heads:
    """An ASGI application around another one: HEAD of a path that has no HEAD of its own is its GET without the
    body. router: of that application."""

    def __init__(self, app: ASGIApp, router: Router) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if not is_head or _answers(self._router, scope, "HEAD") or not _answers(self._router, scope, "GET"):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_head)


def allowed_methods(router: Router, scope: Scope) -> list[str]:
    """Of GET, HEAD and POST those that the path of a request answers."""
    has_get = _answers(router, scope, "GET")
    return [*(("GET", "HEAD") if has_get else ()), *(("POST",) if _answers(router, scope, "POST") else ())]


def _answers(router: Router, scope: Scope, method: str) -> bool:
    """A folder of files answers GET and HEAD."""
    root = scope.get("app_root_path", scope.get("root_path", ""))  # of the application, should a mount have the request
    asked = {**scope, "method": method, "root_path": root}
    return any(
        route.matches(asked)[0] is Match.FULL and (method != "POST" or not isinstance(route, Mount))
        for route in router.routes
    )
