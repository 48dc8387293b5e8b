"""What every job shares as a program: logs to stderr, errors in one line, results to stdout, its end by a signal."""

import atexit
import io
import json
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

import typer

from jobs.explaining import explained
from qasir.files.readable import OneLineFormatter, printable

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit statuses besides 0: an error or too many failures, options that make no sense, Ctrl-C, SIGTERM."""
_KEPT = "what was committed is kept, and the same command goes on from there"


def run(app: typer.Typer, *, kept: str = _KEPT, leaves_threads: bool = False) -> NoReturn:
    """Run a job as a program, to its exit status. kept: what is said of its work when a signal ends it. leaves_threads:
    whether threads may be at work when it ends, which would crash in the middle of Python's own end.

    Errors that users meet are one line on stderr; a bug of ours shows its traceback. SIGTERM ends a job as Ctrl-C does:
    by a KeyboardInterrupt, on which it commits what is done.
    """
    before = set(threading.enumerate())
    _log_to_stderr()
    with _ended_by_sigterm() as told:
        status = _status(app)
    if status == INTERRUPTED:
        status = TERMINATED if told.is_set() else INTERRUPTED
        _complain(f"{'terminated' if told.is_set() else 'interrupted'}; {kept}")
    status = _after_flushing(status)
    if leaves_threads and not before.issuperset(threading.enumerate()):
        atexit._run_exitfuncs()
        os._exit(status)
    sys.exit(status)


def say(line: str = "") -> None:
    """Print a line of results. What names, tags or queries bring along for the terminal is written out."""
    print(printable(line), flush=True)  # noqa: T201  the one place that prints


def print_json(facts: Mapping[str, Any]) -> None:
    say(json.dumps(facts, default=str))


def _status(app: typer.Typer) -> int:
    try:
        return app(standalone_mode=False) or 0
    except typer.TyperException as misused:
        said = io.StringIO()
        misused.show(said)  # type: ignore[attr-defined]
        _complain(printable(said.getvalue().rstrip(), keep="\n"))
        return getattr(misused, "exit_code", USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except BaseException as error:
        line = explained(error, shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]))
        if line is None:
            sys.excepthook = _show_bug
            raise
        _complain(f"error: {line}")
        return FAILED


def _complain(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _complain(printable("".join(traceback.format_exception(error)).rstrip(), keep="\n\t"))


def _after_flushing(status: int) -> int:
    """The status, or that of a job nobody listened to, as in `job | head -1`."""
    if sys.stdout is None:  # closed by whoever started the job
        return status
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of it when it ends
        return status or FAILED
    return status


@contextmanager
def _ended_by_sigterm() -> Iterator[threading.Event]:
    """SIGTERM interrupts as Ctrl-C does, and is told by the event; a second one ends the process at once."""
    told = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        told.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield told
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("qasir").setLevel(logging.INFO)
    logging.getLogger("pipelines").setLevel(logging.INFO)
