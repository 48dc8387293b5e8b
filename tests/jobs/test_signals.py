"""Jobs that are told to end, as real processes: what is done is committed, and nothing is left running."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from qasir.encoding.encode import encode
from qasir.encoding.options import EncoderOptions
from qasir.encoding.run import RunProgress
from qasir.index.index import Index
from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[2]

ENCODE = """
from typing import Annotated

import typer

from jobs.command_line import job
from jobs.console import run, say
from qasir.encoding.encode import encode
from qasir.encoding.options import EncodeOptions, EncoderOptions

MODEL = EncoderOptions(grid=1, fps=5.0, image_size=96, thumbnails=False)


def main(videos: Annotated[str, typer.Option()], index: Annotated[str, typer.Option()]) -> None:
    encode(
        videos, index, model=MODEL, options=EncodeOptions(commit_every_s=1000.0),
        on_progress=lambda now: say(f"{now.super_images}"),
    )


run(job(main))
"""

STUBBORN = """
import time

from jobs.command_line import job
from jobs.console import run, say


def main() -> None:
    try:
        say("begun")
        time.sleep(60)
    finally:
        say("committing")
        time.sleep(60)


run(job(main))
"""


TALKATIVE = """
from jobs.command_line import job
from jobs.console import run, say


def main() -> None:
    for i in range(100_000):
        say(str(i))


run(job(main))
"""


BUG = """
from jobs.command_line import job
from jobs.console import run


def main() -> None:
    raise TypeError(chr(0x1b) + "[2J" + chr(0x202e))


run(job(main))
"""


def started(command, **options):
    return subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, **options,
    )  # fmt: skip


def program(folder, text):
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text))
    return path


def of_session(leader):
    """Commands of the processes that are left of a session, but for zombies."""
    listed = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [row[2] for row in rows if row[0] == str(leader) and not row[1].startswith("Z")]


def all_gone(leader, within_s=15.0):
    until = time.monotonic() + within_s
    while (left := of_session(leader)) and time.monotonic() < until:
        time.sleep(0.2)
    return left == []


@pytest.fixture
def videos(tmp_path):
    for i in range(4):
        write_video(tmp_path / "videos" / f"v{i}.mp4", 300)
    return tmp_path / "videos"


@pytest.mark.parametrize(
    ("number", "to_all", "status", "says"),
    [
        (signal.SIGTERM, False, 143, "terminated"),
        pytest.param(signal.SIGTERM, True, 143, "terminated", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, 130, "interrupted", marks=pytest.mark.slow),
    ],
)
def test_what_is_done_is_committed_and_nothing_is_left_running(videos, tmp_path, number, to_all, status, says):
    index = tmp_path / "index"
    process = started([program(tmp_path, ENCODE), "--videos", videos, "--index", index])
    assert process.stdout is not None
    while int(process.stdout.readline()) < 16:
        pass
    assert any("encoding.child" in command for command in of_session(process.pid))
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert said.splitlines()[-1].startswith(f"{says}; what was committed is kept")
    assert "Traceback" not in said
    assert all_gone(process.pid)
    opened = Index.open(str(index))
    assert opened.table("super_images").count_rows() >= 16
    assert opened.table("runs").to_table()["ended"].null_count == 0, "the lease is let go"


def test_a_second_signal_ends_it_at_once(tmp_path):
    process = started([program(tmp_path, STUBBORN)])
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    assert process.stdout.readline() == "committing\n"
    process.terminate()
    assert process.wait(timeout=10) == -signal.SIGTERM  # which a shell shows as 143


def test_a_reader_that_goes_away_ends_a_job_without_a_traceback(tmp_path):
    process = started([program(tmp_path, TALKATIVE)])
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_on_a_local_ray_ends_like_any_other(videos, tmp_path):
    """ray.init sets a handler of its own for SIGTERM, which would end the process without a commit."""
    index = tmp_path / "index"
    settings = ("--grid", "1", "--fps", "5", "--image-size", "96", "--no-thumbnails", "--commit-every", "0.5s")
    process = started(["-m", "jobs.encode_corpus", "--videos", videos, "--index", index, *settings])

    def n_kept():
        opened = Index.find(str(index))
        return opened.table("super_images").count_rows() if opened else 0

    until = time.monotonic() + 300
    while not (before := n_kept()):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "terminated; what was committed is kept" in said
    assert "Traceback" not in said
    assert all_gone(process.pid)
    assert n_kept() >= before
    assert Index.open(str(index)).table("runs").to_table()["ended"].null_count == 0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_library_ends_its_decoder_on_what_a_programs_own_handler_raises(tmp_path, kind):
    write_video(tmp_path / "videos" / "a.mp4", 300)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def stop(now: RunProgress) -> None:
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
        if now.super_images >= 16 and now.done == 0:
            raise kind

    model = EncoderOptions(grid=1, fps=5.0, image_size=96, thumbnails=False)
    with pytest.raises(kind):
        encode(tmp_path / "videos", tmp_path / "index", model=model, on_progress=stop)
    children = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    assert "encoding.child" not in children.stdout
    index = Index.open(str(tmp_path / "index"))
    assert index.table("super_images").count_rows() >= 16
    assert index.table("runs").to_table()["ended"].null_count == 0


def test_the_traceback_of_a_bug_cannot_steer_a_terminal(tmp_path):
    process = started([program(tmp_path, BUG)])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("TypeError: \\x1b[2J\\u202e\n")
