"""Every job as a program of its own, as it is called from a shell."""

import logging
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if "__main__" in path.read_text())


@pytest.fixture
def asked_for_help(monkeypatch, capsys):
    """Runs a file or module in this process as a program with --help; what it says."""
    levels = {name: logging.getLogger(name).level for name in ("qasir", "pipelines")}

    def said(run, name):
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as end:
            run(name, run_name="__main__")
        assert end.value.code == 0
        return capsys.readouterr().out

    yield said
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_job_is_a_file_and_a_module_with_help(asked_for_help, name):
    as_file = asked_for_help(runpy.run_path, str(ROOT / "jobs" / f"{name}.py"))
    assert f"Usage: {name}.py [OPTIONS]" in as_file
    assert "--json" in as_file
    as_module = asked_for_help(runpy.run_module, f"jobs.{name}")
    assert as_module.splitlines()[2:] == as_file.splitlines()[2:]


def test_a_program_prints_errors_in_one_line_and_exits_non_zero(tmp_path):
    done = subprocess.run(
        [sys.executable, "jobs/search_corpus.py", "--index", str(tmp_path / "no"), "a cat"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("error: no index at")


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_starts_in_a_process_of_its_own(name):
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout
