"""What every job's command line shares: logs to stderr, errors in one line, results to stdout, `--json` last."""

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any

import typer

from qasir.errors import QasirError

Json = Annotated[bool, typer.Option("--json", help="Make the last line of stdout one JSON object with the same facts.")]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def job(main: Callable[..., None]) -> typer.Typer:
    """A one-command Typer app around `main`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    return app


def run(app: typer.Typer) -> None:
    """Run a job as a program: user errors become one line on stderr and exit status 1."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("qasir").setLevel(logging.INFO)
    logging.getLogger("pipelines").setLevel(logging.INFO)
    try:
        app()
    except QasirError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; what was committed is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def print_json(facts: Mapping[str, Any]) -> None:
    print(json.dumps(facts, default=str), flush=True)


def duration(text: str) -> timedelta:
    """A length of time on the command line: 30s, 5m, 2h, 7d, 1w."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r}: give a number and a unit, such as 30s, 5m, 2h or 7d")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})
