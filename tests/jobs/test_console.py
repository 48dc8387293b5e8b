"""What every job shares as a program; `tests/jobs/test_programs.py` starts the programs themselves."""

import logging
import os
import signal
import sys
import threading
from concurrent.futures import BrokenExecutor

import pyarrow as pa
import pytest
import ray
import typer

from jobs.command_line import Given, job
from jobs.console import print_json, run, say
from qasir.errors import QasirError
from qasir.files.readable import OneLineFormatter


@pytest.fixture
def ended(monkeypatch):
    """Runs a main function as a program without arguments; its exit status."""
    loggers = [logging.getLogger(name) for name in ("qasir", "pipelines")]
    levels = [logger.level for logger in loggers]

    def status_of(main):
        monkeypatch.setattr(sys, "argv", ["job"])
        with pytest.raises(SystemExit) as end:
            run(job(main))
        return end.value.code

    yield status_of
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_results_go_to_stdout_and_the_status_is_0(ended, capsys):
    def main() -> None:
        print("3 videos")

    assert ended(main) == 0
    assert capsys.readouterr() == ("3 videos\n", "")


def test_a_users_error_is_one_line_on_stderr_and_status_1(ended, capsys):
    def main() -> None:
        raise QasirError("no index at nowhere")

    assert ended(main) == 1
    assert capsys.readouterr() == ("", "error: no index at nowhere\n")


def test_an_error_of_ours_is_shown_whole(ended):
    def main() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        ended(main)


def test_an_interrupted_job_says_that_it_goes_on_from_there(ended, capsys):
    def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
    try:
        assert ended(main) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    out, error = capsys.readouterr()
    assert out == ""
    assert "the same command goes on from there" in error


FAMILIES = [
    (FileNotFoundError(2, "No such file or directory", "/x/y"), "No such file or directory: /x/y"),
    (OSError("LanceError(IO): No space left (os error 28)"), "No space left (os error 28) (in job)"),
    (ValueError("LanceError(IO): Generic S3 error: 503 Slow Down, /a/b.rs:1:2"), "503 Slow Down (in job)"),
    (pa.ArrowInvalid("Parquet magic bytes not found\nmore"), "Parquet magic bytes not found (in job)"),
    (ConnectionError("Failed to connect to Ray"), "cannot connect: Failed to connect to Ray (in job)"),
    (MemoryError(), "out of memory: MemoryError (in job)"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory: CUDA out of memory. Tried to"),
    (ray.exceptions.GetTimeoutError("no answer in 3 s"), "no answer in 3 s (in job)"),
    (ray.exceptions.RayTaskError("f", "Traceback ...", QasirError("of a task")).as_instanceof_cause(), "of a task"),
    (ray.exceptions.RayTaskError("f", "Traceback ...", OSError(13, "No", "/x")).as_instanceof_cause(), "No: /x"),
    (BrokenExecutor("A process was terminated"), "a worker process died, of lack of memory say: A process was"),
    (QasirError("no \x1b[31mred\n  and a second line"), "no \\x1b[31mred"),
]


@pytest.mark.parametrize(("error", "line"), FAMILIES)
def test_an_error_of_the_system_of_tables_or_of_ray_is_a_line_too(ended, capsys, error, line):
    def main() -> None:
        raise error

    assert ended(main) == 1
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith(f"error: {line}")
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", [TypeError, AssertionError, ValueError, RuntimeError])
def test_a_bug_is_never_made_a_line(ended, kind):
    def main() -> None:
        raise kind("a bug")

    with pytest.raises(kind, match="a bug"):
        ended(main)


def test_results_and_logs_cannot_steer_a_terminal(ended, capsys):
    def main() -> None:
        say("a\x1b[2Jb\nINFO c\u202e")
        print_json({"name": "\x1b\u202e"})

    assert ended(main) == 0
    assert capsys.readouterr().out == 'a\\x1b[2Jb\\nINFO c\\u202e\n{"name": "\\u001b\\u202e"}\n'
    record = logging.LogRecord("qasir", logging.WARNING, "f.py", 1, "%s: %s", ("a\nERROR b", "\x9b1m"), None)
    assert OneLineFormatter("%(levelname)s %(message)s").format(record) == "WARNING a\\nERROR b: \\x9b1m"


def test_a_log_keeps_the_lines_of_a_traceback():
    try:
        raise KeyError("x")
    except KeyError:
        record = logging.LogRecord("qasir", logging.ERROR, "f.py", 1, "no", (), sys.exc_info())
    lines = OneLineFormatter("%(message)s").format(record).splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("no", "Traceback (most recent call last):", "KeyError: 'x'")


def test_options_that_make_no_sense_are_status_2_and_cannot_steer_a_terminal(ended, capsys):
    def main(given: Given) -> None:
        raise typer.BadParameter("no \x07\u202ered")

    assert ended(main) == 2
    said = capsys.readouterr().err
    assert "Usage: " in said
    assert said.endswith("no \\x07\\u202ered\n")


def test_the_status_of_too_many_failures_is_1(ended):
    def main() -> None:
        raise typer.Exit(1)

    assert ended(main) == 1


def test_sigterm_is_an_interrupt_with_a_status_of_its_own(ended, capsys):
    done = []

    def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            done.append("what is done on an interrupt")

    before = signal.getsignal(signal.SIGTERM)
    assert ended(main) == 143
    assert done
    assert "terminated; what was committed is kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_no_handler_is_set(ended):
    before, statuses = signal.getsignal(signal.SIGTERM), []

    def main() -> None:
        assert signal.getsignal(signal.SIGTERM) == before

    thread = threading.Thread(target=lambda: statuses.append(ended(main)))
    thread.start()
    thread.join()
    assert statuses == [0]
