"""One run at a time writes an index, whatever clocks, suspensions and object stores do."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lance
import pytest

from qasir.errors import IndexHeldError, SpecError, UnreadableIndexError
from qasir.index.index import Index
from qasir.index.lease import PROGRESS, Run, holding
from qasir.index.process import Process, clock_s
from qasir.index.runs import Runs
from qasir.index.schemas import FORMAT_KEY, PRIMARY_KEY
from tests.indexes import new_index, writing
from tests.qasir.encoding.stubs import SPEC

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def index(tmp_path):
    return new_index(tmp_path / "index", SPEC)


def rows(index):
    return index.table("runs").to_table().sort_by("epoch").to_pylist()


def elsewhere(monkeypatch, **changes):
    """From here on runs begin as processes that cannot be seen from this one."""
    this = Process.this()
    monkeypatch.setattr(Process, "this", classmethod(lambda cls: replace(this, **changes)))


def test_a_run_is_recorded_and_holds_the_index(index):
    with Run(index, "encode") as run:
        run.counts = {"encoded": 3}
        since = time.monotonic()
        with (
            pytest.raises(IndexHeldError, match=r"is being written by encode on .* since .*\(epoch 2,"),
            Run(index, "second"),
        ):
            pass
        assert time.monotonic() - since < 5, "a holder that can be seen is judged at once"
    row = rows(index)[-1]
    assert (row["job"], row["epoch"], row["counts"]) == ("encode", 2, '{"encoded": 3}')
    assert row["ended"] is not None
    assert "torch" in row["versions"]
    with Run(index, "third"):
        pass


def test_an_error_in_a_run_is_recorded_and_lets_the_index_go(index):
    with pytest.raises(RuntimeError), Run(index, "bad"):
        raise RuntimeError("boom")
    assert "boom" in rows(index)[-1]["counts"]
    assert rows(index)[-1]["ended"] is not None


def test_the_epoch_is_the_key_of_the_table(index):
    assert next(iter(PRIMARY_KEY)) in index.table("runs").schema.field("epoch").metadata


def _start(uri, barrier, results, rounds):
    index = Index.open_or_new(uri, SPEC, "/videos")
    for _ in range(rounds):
        barrier.wait()
        held = False
        with suppress(IndexHeldError), Run(index, "both"):
            held = True
            barrier.wait()
        if not held:
            barrier.wait()
        results.put(held)
        barrier.wait()


def holders_of_rounds(uri, rounds):
    """How many of two processes held the index in each of so many rounds in which they started at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    both = [context.Process(target=_start, args=(uri, barrier, results, rounds)) for _ in range(2)]
    for process in both:
        process.start()
    held = [results.get(timeout=300) + results.get(timeout=300) for _ in range(rounds)]
    for process in both:
        process.join()
    return held


def test_of_two_that_start_at_once_one_holds_and_one_is_told(tmp_path):
    """The first round makes the index."""
    uri = str(tmp_path / "new")
    assert holders_of_rounds(uri, 8) == [1] * 8
    assert [row["epoch"] for row in rows(Index.open(uri))] == list(range(1, 9))


@pytest.mark.slow
def test_of_two_that_start_at_once_one_holds_and_one_is_told_a_hundred_times(tmp_path):
    assert holders_of_rounds(str(tmp_path / "new"), 100) == [1] * 100


def test_of_two_who_name_one_new_index_with_other_settings_the_second_is_told(tmp_path):
    uri = str(tmp_path / "new")
    one, other = (Index.open_or_new(uri, spec, "/videos") for spec in (SPEC, replace(SPEC, grid=3)))
    with writing(one):
        pass
    with pytest.raises(SpecError, match="grid: 2 in the index, 3 asked for"), writing(other):
        pass
    assert Index.open(uri).spec == SPEC


HOLD = """
import sys, time
from qasir.index.index import Index
from qasir.index.lease import Run
with Run(Index.open(sys.argv[1]), "other", heartbeat_s=0.1, lease_s=float(sys.argv[2])) as run:
    print("held", flush=True)
    for line in sys.stdin:
        try:
            run.check()
            print("mine", flush=True)
        except Exception as error:
            print(error, flush=True)
"""


@pytest.fixture
def other(index):
    """Starts a process that holds the index and checks its lease for every line it gets."""
    started = []

    def start(lease_s=2.0, launch=()):
        process = subprocess.Popen(
            [*launch, sys.executable, "-c", HOLD, index.uri, str(lease_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def says(process):
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_a_killed_holder_of_this_machine_holds_nothing(index, other):
    process = other(lease_s=90.0)
    with pytest.raises(IndexHeldError, match="other"), Run(index, "early"):
        pass
    process.kill()
    process.wait()
    since = time.monotonic()
    with Run(index, "next"):
        pass
    assert time.monotonic() - since < 5
    killed, after = rows(index)[-2:]
    assert (killed["job"], killed["ended"]) == ("other", None)
    assert (after["job"], after["epoch"]) == ("next", killed["epoch"] + 1)


def test_a_holder_that_was_suspended_past_its_lease_has_lost_it(index, other):
    process = other()
    assert says(process) == "mine\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.3)
    with Run(index, "next"):
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # time for heartbeats that would revive it
        assert "must not write any more" in says(process)
        assert rows(index)[-1]["job"] == "next"
    assert "must not write any more" in says(process)


def test_a_suspended_holder_has_lost_its_lease_even_when_nobody_else_came(index, other):
    process = other()
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.3)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    assert "could not renew its lease" in says(process)


def test_a_holder_whose_successor_came_and_went_has_lost_it(index):
    with Run(index, "first") as first:
        runs = Runs(index.table_uri("runs"), {})
        assert runs.insert({**rows(index)[-1], "run_id": "later", "epoch": first.epoch + 1})
        with pytest.raises(IndexHeldError, match="lost its lease on .* to epoch"):
            first.check()
        with pytest.raises(IndexHeldError):
            first.writer.remove(["a"])


@pytest.mark.parametrize("change", [{"boot_id": "other"}, {"pid_namespace": "pid:[1]"}, {"boot_id": ""}])
def test_a_holder_that_cannot_be_seen_is_watched(index, monkeypatch, change):
    """On another machine, in another container, or on a system that does not tell; with the same host name."""
    with monkeypatch.context() as patch:
        elsewhere(patch, **change)
        alive = Run(index, "alive", heartbeat_s=0.1, lease_s=2.0)
        alive.__enter__()
    with pytest.raises(IndexHeldError, match="alive"), Run(index, "early"):
        pass
    assert holding(index).state == "unseen"
    alive._over.set()  # its heart stops, as by a power cut
    alive._beat.join()
    since = time.monotonic()
    with Run(index, "next") as run:
        assert time.monotonic() - since > 2.0
        assert run.epoch == alive.epoch + 1
        with pytest.raises(IndexHeldError):
            alive.check()


def test_a_number_that_another_process_has_now_is_not_the_holder(index, monkeypatch):
    with monkeypatch.context() as patch:
        elsewhere(patch, started=1)
        killed = Run(index, "killed", heartbeat_s=90.0)
        killed.__enter__()
    with Run(index, "next"):
        pass


def test_a_process_in_another_namespace_is_not_taken_for_dead(index, other):
    """A container that shares this machine's name: its process's number means nothing here."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody make namespaces")
    process = other(launch=unshare)
    with pytest.raises(IndexHeldError, match="other"), Run(index, "early"):
        pass
    assert says(process) == "mine\n"


@pytest.mark.parametrize("hours", [-1000, 1000])
def test_wall_clocks_neither_take_a_lease_nor_keep_one(index, monkeypatch, hours):
    """The clock jumps while the index is held, or is another one."""
    monkeypatch.setattr("qasir.index.lease.now", lambda: _now() + timedelta(hours=hours))
    with Run(index, "held", heartbeat_s=0.1, lease_s=2.0) as run:
        monkeypatch.undo()
        time.sleep(0.3)
        run.check()
        with pytest.raises(IndexHeldError), Run(index, "early"):
            pass
    with monkeypatch.context() as patch:
        patch.setattr("qasir.index.lease.now", lambda: _now() + timedelta(hours=hours))
        elsewhere(patch, boot_id="other")
        dead = Run(index, "dead", heartbeat_s=0.1, lease_s=1.0)
        dead.__enter__()
        dead._over.set()
    with Run(index, "next"):
        pass


def _now():
    from qasir.index.index import now

    return now()


@pytest.mark.parametrize("error", [ValueError("503 Service Unavailable"), OSError("reset"), RuntimeError("a panic")])
def test_a_heartbeat_survives_what_a_store_throws_once_and_says_so(index, monkeypatch, caplog, error):
    with Run(index, "held", heartbeat_s=0.1, lease_s=2.0) as run:
        real, failures = Runs.update, [error]

        def update(self, run_id, values):
            if failures:
                raise failures.pop()
            real(self, run_id, values)

        monkeypatch.setattr(Runs, "update", update)
        with caplog.at_level(logging.WARNING):
            deadline = time.monotonic() + 10
            while rows(index)[-1]["beat"] < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
        assert rows(index)[-1]["beat"] >= 2
        assert "a heartbeat failed" in caplog.text
        assert str(error) in caplog.text
        run.check()


def test_a_row_says_how_far_its_run_is_until_it_says_what_came_of_it(index):
    progress = {"done": 3, "planned": 7, "super_images": 40, "seconds": 1.5}
    with Run(index, "encode", heartbeat_s=0.1) as run:
        run.progress = progress
        deadline = time.monotonic() + 10
        while rows(index)[-1]["counts"] is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert json.loads(rows(index)[-1]["counts"]) == {PROGRESS: progress}
        run.counts = {"encoded": 7}
    assert json.loads(rows(index)[-1]["counts"]) == {"encoded": 7}


def test_who_holds_an_index_can_be_asked(index):
    assert holding(index).state == "free"
    with Run(index, "encode_corpus") as run:
        held = holding(index)
        assert (held.job, held.epoch, held.state, held.ended) == ("encode_corpus", run.epoch, "held", None)
        assert held.holder == str(Process.this())


def test_the_clock_of_leases_goes_on_and_is_shared(index):
    before = clock_s()
    said = subprocess.run(
        [sys.executable, "-c", "from qasir.index.process import clock_s; print(clock_s())"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert before < float(said.stdout) < clock_s()


# Formats


@pytest.fixture
def older(tmp_path):
    """An index that version 1 of the format made, of two videos and a broken one."""
    shutil.unpack_archive(ROOT / "tests" / "data" / "index-format-1.zip", tmp_path / "older")
    return Index.open(str(tmp_path / "older"))


def test_an_index_of_an_older_format_is_read_and_the_next_writer_brings_it_up_to_date(older):
    assert len(older.snapshot().super_images([])) == 2
    assert {state.status for state in older.states().values()} == {"encoded", "failed"}
    assert holding(older) is None
    with Run(older, "next") as run:
        assert not run.is_clean, "nobody has looked at what it holds"
    assert [row["epoch"] for row in rows(older)] == [0, 1]
    assert next(iter(PRIMARY_KEY)) in older.table("runs").schema.field("epoch").metadata
    assert {"failed_fingerprint", "attempts"} <= set(older.table("videos").schema.names)
    assert older.table("videos").schema.metadata[FORMAT_KEY] == b"2"
    assert len(Index.open(older.uri).snapshot().super_images([])) == 2


def test_an_older_run_that_may_still_live_is_watched(older, monkeypatch):
    monkeypatch.setattr("qasir.index.lease.LEASE_S", 0.5)
    older.table("runs").update({"ended": "NULL"})
    since = time.monotonic()
    with Run(older, "next"):
        assert time.monotonic() - since > 0.5


def test_an_index_of_a_newer_format_is_refused(index):
    index.table("videos").update_schema_metadata({FORMAT_KEY.decode(): "99"})
    with pytest.raises(UnreadableIndexError, match=r"made by a newer version of qasir \(format 99"):
        Index.open(index.uri)


def test_what_a_commit_was_made_by_can_be_read_from_it(index):
    with writing(index) as writer:
        writer.upsert_videos(
            [{"video_id": "a", "uri": "a", "fingerprint": "f", "status": "failed", "encoded_at": _now()}]
        )
        epoch = writer.epoch
    table = lance.dataset(index.table_uri("videos"))
    assert table.read_transaction(table.version).transaction_properties["qasir.epoch"] == str(epoch)
