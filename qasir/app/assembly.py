"""Puts the page of an engine together: every route of it, behind the guard."""

from starlette.types import ASGIApp

from qasir.app import export_api, media_api, search_api, session_api, status_api
from qasir.app.application import make_app
from qasir.app.engine import Engine
from qasir.app.guard import Guard
from qasir.app.settings import AppSettings


def make_page(engine: Engine, settings: AppSettings) -> ASGIApp:
    """The search page and its API over what the engine serves."""
    search = search_api.router(engine, settings)
    routers = [
        search, export_api.router(engine, search), media_api.router(engine, settings),
        status_api.router(engine, settings), session_api.router(),
    ]  # fmt: skip
    return Guard(make_app(routers), settings)
