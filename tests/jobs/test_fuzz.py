"""A sample of `make fuzz`: damaged files of many containers and codecs, encoded like any others."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_damaged_files_fail_one_by_one_with_a_listed_kind_and_read_nothing_else(tmp_path):
    """The script ends with an error when a promise is broken."""
    output = tmp_path / "fuzz.md"
    command = [sys.executable, ROOT / "benchmarks" / "fuzz.py", "--files", "40", "--seed", "3", "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    assert "made 42 files" in text
    assert "| list of files | 2 |" in text
