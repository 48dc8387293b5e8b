"""What every job shares as a program; `tests/jobs/test_programs.py` starts the programs themselves."""

import logging
import os
import signal
import sys

import pytest

from jobs.command_line import job
from jobs.console import run
from qasir.errors import QasirError


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
