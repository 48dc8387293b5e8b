"""Serves the search page of one index or several, and its HTTP API (docs/search.md)."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any

import typer

from jobs.command_line import job
from jobs.console import print_json, run, say
from jobs.options import MethodNumbers, Ranking, given_numbers
from qasir.app.settings import AppSettings
from qasir.errors import QasirError, SpecError
from qasir.files.readable import reason
from qasir.options import Doc, Range

_GIB = 1 << 30
_ENDS_WITHIN_S = 2
"""What is under way when the server ends has this long."""
_LEFT_AFTER_S = 1
"""Threads that are at work still, loading a model say, are waited for no longer than this."""


@dataclass(frozen=True)
class Served(Ranking):
    """What the page searches, and how it ranks."""

    index: Annotated[
        tuple[str, ...],
        Doc("An index; give it again for another to choose from, or with --hybrid twice, the expensive model's first."),
    ]


@dataclass(frozen=True)
class Limits:
    """How much the server does at once, and keeps."""

    requests: Annotated[
        int, Doc("Requests worked on at once, of each kind; further ones are told to try again."), Range(1)
    ] = AppSettings.requests
    clips: Annotated[int, Doc("Clips transcoded at once, for what a browser cannot show."), Range(1)] = (
        AppSettings.clips
    )
    longest_clip_s: Annotated[float, Doc("The longest clip.")] = AppSettings.clip_s
    cache_gib: Annotated[float, Doc("Disk for clips and frames, in GiB."), Range(0)] = AppSettings.cache_bytes / _GIB


def serve(
    served: Served,
    numbers: MethodNumbers,
    limits: Limits,
    host: Annotated[
        str, typer.Option(help="Name or address to listen at; any but this machine's own loopback wants a --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="QASIR_TOKEN",
            show_envvar=False,
            help="What a client must know; better given as QASIR_TOKEN in the environment, which others do not see.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which the server may be called, besides localhost and addresses; repeatable."),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--indexed",
            help="Score every video, or only candidates from the vector index, unless a request says otherwise.",
            show_default="indexed where there is a vector index",
        ),
    ] = None,
    allow_sql: Annotated[bool, typer.Option(help="Whether filters may be SQL over the columns of `videos`.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Make the first line of stdout one JSON object with the address.")
    ] = False,
) -> None:
    """Serve a page to search and watch, until Ctrl-C or SIGTERM."""
    if limits.longest_clip_s <= 0:
        raise SpecError("--longest-clip 0s: choose a length above 0")
    settings = AppSettings(
        allow_sql=allow_sql, token=token, hosts=tuple(allowed_host or ()), requests=limits.requests, clips=limits.clips,
        clip_s=limits.longest_clip_s, cache_bytes=int(limits.cache_gib * _GIB),
    )  # fmt: skip
    with listening(host, port, token) as listener:
        from qasir.app.assembly import make_page  # what it takes long to import is imported once the port is ours
        from qasir.app.engine import Engine
        from qasir.app.question import Ranking as Question

        ranking = Question(aggregation=served.aggregation, numbers=given_numbers(numbers), exact=exact)
        engine = Engine(served.index, finetuned=served.finetuned, hybrid=served.hybrid, ranking=ranking)
        try:
            page = make_page(engine, settings)
            indexes = [
                {
                    "uri": one.uri,
                    "videos": 0 if one.opened is None else len(one.opened.rows),
                    "waiting": engine.waiting(number),
                }
                for number, one in enumerate(engine.followed)
            ]
            url = address(host, listener.getsockname()[1])
            if as_json:
                print_json({"url": url, "indexes": indexes})
            say(url)
            for index in indexes:
                say(f"{index['uri']}: {index['videos']} videos" + (f"; {index['waiting']}" if index["waiting"] else ""))
            if token is not None:
                say(f"open it once as {url}/?token=TOKEN with the token you gave; docs/search.md says how programs do")
            _answer(page, limits.requests, listener, lambda: engine.close(_LEFT_AFTER_S))
        finally:
            engine.close(_LEFT_AFTER_S)


def listening(host: str, port: int, token: str | None) -> socket.socket:
    """A socket that others cannot have any more, and whose clients wait until they are answered. Raises QasirError
    where that cannot be, and a usage error where a token is missing."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise QasirError(f"--host {host!r} is no name or address of this machine: {reason(error)}") from None
    family, kind, protocol, _, where = found[0]
    if token is None and not ip_address(str(where[0]).partition("%")[0]).is_loopback:
        raise typer.BadParameter(
            f"--host {host} can be reached from elsewhere: give --token, or QASIR_TOKEN in the environment"
        )
    if token == "":
        raise typer.BadParameter("--token is empty: give one that cannot be guessed")
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()
    except OSError as error:
        listener.close()
        raise QasirError(
            f"cannot listen at port {port} of {host}: {reason(error)}; choose another --port, or 0 for any free one"
        ) from None
    return listener


def address(host: str, port: int) -> str:
    """What a browser on this machine opens."""
    own = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return f"http://{own.get(host) or (f'[{host}]' if ':' in host else host)}:{port}"


def _answer(page: Any, requests: int, listener: socket.socket, close: Callable[[], object]) -> None:
    """Until a signal ends it, which is raised again once what was under way has ended; `close` is called before."""
    import uvicorn

    from qasir.app.connections import configured

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await asyncio.to_thread(close)
            await super().shutdown(sockets)

    server = Server(configured(page, requests, timeout_graceful_shutdown=_ENDS_WITHIN_S))
    server.run(sockets=[listener])
    if not server.started:
        raise QasirError("the page could not be started; the log above says why")
    raise KeyboardInterrupt  # a Ctrl-C that this process was told to ignore, as shells do in the background


app = job(serve)

if __name__ == "__main__":
    run(app, kept="the page is served no more", leaves_threads=True)
