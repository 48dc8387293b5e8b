"""A run dies at every one of its writes in turn, and the same run again ends with the tables of an undisturbed one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qasir.encoding.stubs import encode_stubbed
from tests.qasir.encoding.test_encode import contents
from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[3]


def killed_runs(folder, start):
    """The indexes that runs left, each killed at another of its writes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.qasir.encoding.dying", str(folder), *([str(start)] if start else [])],
        cwd=folder.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [folder.parent / f"killed{n}" for n in range(1, int(done.stdout) + 1)]


@pytest.fixture(params=["a new index", "an index to bring up to date"])
def before(request, tmp_path):
    """(folder of videos, index to begin with or None): two new videos; or two that were changed, one for the worse."""
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4", 25)
    write_video(folder / "b.mp4", 12)
    if request.param == "a new index":
        return folder, None
    encode_stubbed(folder, tmp_path / "before")
    write_video(folder / "a.mp4", 45)
    (folder / "b.mp4").write_bytes(b"nothing")
    return folder, tmp_path / "before"


def test_killed_at_any_write_and_run_again_it_ends_the_same(before, tmp_path):
    folder, start = before
    if start is not None:
        shutil.copytree(start, tmp_path / "undisturbed")
    expected = contents(encode_stubbed(folder, tmp_path / "undisturbed", batch=1, commit_every_s=0.0)[1])
    indexes = killed_runs(folder, start)
    assert len(indexes) >= 8
    for uri in indexes:
        assert contents(encode_stubbed(folder, uri)[1]) == expected, uri.name
