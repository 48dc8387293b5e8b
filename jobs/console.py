"""What every job shares as a program: logs to stderr, errors in one line, results to stdout."""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import typer

from qasir.errors import QasirError

_INTERRUPTED = 130
"""The exit status that Typer makes of a KeyboardInterrupt."""


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
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("interrupted; what was committed is kept, and the same command goes on from there", file=sys.stderr)
        raise


def print_json(facts: Mapping[str, Any]) -> None:
    print(json.dumps(facts, default=str), flush=True)
