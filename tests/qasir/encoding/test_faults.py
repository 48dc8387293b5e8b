"""Each write of a run fails in turn, in several ways, and the same run again ends with the tables of an undisturbed
one."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.verification import broken_videos
from tests.qasir.encoding.stubs import encode_stubbed, reindex_stubbed
from tests.qasir.encoding.test_encode import contents
from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[3]
FAULTS = ("killed", "exception", "full-disk", "lost-lease")


def faulty_runs(job, fault, folder, start, each=1):
    """[n, the write that failed, how the run ended] of runs that each meet the fault at another of their writes."""
    command = [sys.executable, "-m", "tests.qasir.encoding.faults", job, fault, str(each), str(folder)]
    done = subprocess.run(
        [*command, *([str(start)] if start else [])], cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_again(job, folder, uri):
    if job == "reindex" and Index.find(str(uri)) is not None:
        return reindex_stubbed(folder, uri)[1]
    return encode_stubbed(folder, uri)[1]


@pytest.fixture(params=["encode, a new index", "encode, an index to bring up to date", "reindex"])
def case(request, tmp_path):
    """(job, folder of videos, index to begin with or None): two new videos; or one that was changed, one changed to
    something broken, one new and one gone."""
    job = request.param.split(",")[0]
    folder = tmp_path / "videos"
    for name, n in (("a", 25), ("b", 12), ("c", 15), *((f"d{i}", 8) for i in range(8))):
        write_video(folder / f"{name}.mp4", n)
    if request.param.endswith("new index"):
        for name in "c", *(f"d{i}" for i in range(8)):
            (folder / f"{name}.mp4").unlink()
        return job, folder, None
    encode_stubbed(folder, tmp_path / "before")
    write_video(folder / "a.mp4", 45)
    (folder / "b.mp4").write_bytes(b"nothing")
    write_video(folder / "e.mp4", 12)
    if job == "reindex":
        (folder / "c.mp4").unlink()
    return job, folder, tmp_path / "before"


def check(case, tmp_path, faults, each=1):
    """{(fault, write): how runs ended} of all that ended as an undisturbed one when they were run again."""
    job, folder, start = case
    if start is not None:
        shutil.copytree(start, tmp_path / "undisturbed")
    expected = contents(run_again(job, folder, tmp_path / "undisturbed"))
    outcomes = Counter()
    for fault in faults:
        for n, write, ended in faulty_runs(job, fault, folder, start, each):
            uri = tmp_path / f"{job}-{fault}-{n}"
            assert contents(run_again(job, folder, uri)) == expected, uri.name
            index = Index.open(str(uri))
            assert broken_videos(index) == [], uri.name
            with Run(index, "next") as run:
                assert run.is_clean, uri.name
            outcomes[fault, write, ended] += 1
            shutil.rmtree(uri)
    return outcomes


def test_a_write_that_fails_costs_nothing_but_time(case, tmp_path):
    """A sample: every sixth write, of two faults."""
    outcomes = check(case, tmp_path, ("killed", "lost-lease"), each=6)
    assert sum(outcomes.values()) >= 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_write_that_fails_in_any_way_costs_nothing_but_time(case, tmp_path):
    outcomes = check(case, tmp_path, FAULTS)
    for (fault, write, ended), n in sorted(outcomes.items()):
        print(f"| {case[0]} | {fault} | {write} | {ended} | {n} |")
    assert {fault for fault, _, _ in outcomes} == set(FAULTS)
    for (fault, _, ended), n in outcomes.items():
        assert fault != "killed" or ended == "killed", (fault, ended, n)
