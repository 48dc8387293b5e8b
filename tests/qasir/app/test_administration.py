import json
import time
from contextlib import suppress
from datetime import timedelta

import lance
import pytest

from qasir.app import administration
from qasir.app.administration import Administrator, Encoding, FailedVideo, VideoCounts
from qasir.app.errors import NotFoundError
from qasir.errors import ERROR_KINDS, StorageError
from qasir.index.index import Index, now
from qasir.index.lease import Run
from qasir.index.maintenance import tag
from tests.indexes import make_index, new_index, writing
from tests.qasir.encoding.stubs import SPEC
from tests.qasir.index.test_lease import elsewhere

PROGRESS = {"done": 3, "planned": 12, "super_images": 40, "video_seconds": 100.0, "seconds": 10.0}


def failed(video_id, kind, error="cut", fingerprint="f"):
    return {
        "video_id": video_id, "uri": video_id, "fingerprint": fingerprint, "error_kind": kind, "error": error,
        "encoded_at": now(),
    }  # fmt: skip


def look(index):
    return Administrator(index.uri).look()


@pytest.fixture
def index(tmp_path):
    return make_index(tmp_path / "index", [2, 1, 3])


def test_videos_are_counted_by_status_and_failures_by_kind(index):
    with writing(index) as writer:
        many = [failed(f"x{i}", "io", f"gone {i}") for i in range(7)]
        writer.record_failures([*many, failed("y", "decode", "e" * 9000), failed("v000", "decode", fingerprint="g")])
    found = look(index)
    assert found.videos == VideoCounts(encoded=3, failed=8, stale=1)
    io, decode = found.failures
    assert (io.kind, io.videos, io.means) == ("io", 7, ERROR_KINDS["io"])
    assert len(io.examples) == 5
    assert io.examples[0] == FailedVideo("x0", "gone 0")
    assert (decode.kind, decode.videos) == ("decode", 2)
    assert max(len(one.message) for one in decode.examples) == 500
    assert found.spec["grid"] == 2
    assert found.uri == index.uri


def test_what_failed_is_counted_once_a_version(index, monkeypatch):
    administrator = Administrator(index.uri)
    before = administrator.look()
    monkeypatch.setattr(administration, "_failures", lambda videos: pytest.fail("counted again"))
    assert administrator.look().videos == before.videos
    monkeypatch.undo()
    with writing(index) as writer:
        writer.record_failures([failed("x", "io")])
    assert administrator.look().videos.failed == 1


def test_runs_come_newest_first_with_what_they_say(index):
    with Run(index, "encode_corpus") as run:
        run.counts = {"encoded": 3, "super_images": 60, "video_seconds": 300.0}
        run.seconds = {"total": 20.0, "bottleneck": "decode"}
    with suppress(OSError), Run(index, "reindex_corpus"):
        raise OSError("disk full")
    with suppress(KeyboardInterrupt), Run(index, "encode_corpus"):
        raise KeyboardInterrupt
    interrupted, broken, good, first = look(index).runs
    assert [run.status for run in (interrupted, broken, good, first)] == ["interrupted", "failed", "ended", "ended"]
    assert (good.rate, good.super_images_a_second, good.bottleneck) == (15.0, 3.0, "decode")
    assert (good.job, good.live, good.progress, good.counts["encoded"]) == ("encode_corpus", False, None, 3)
    assert broken.error == "OSError: disk full"
    assert first.rate is None, "it says nothing"


def test_a_run_that_is_going_says_how_far_it_is(index):
    administrator = Administrator(index.uri)
    with Run(index, "encode_corpus", heartbeat_s=0.1) as run:
        assert administrator.look().runs[0].progress is None
        run.progress = PROGRESS
        until = time.monotonic() + 10
        while (row := administrator.look().runs[0]).progress is None and time.monotonic() < until:
            time.sleep(0.05)
        assert (row.status, row.live, row.ended_at) == ("running", True, None)
        assert (row.progress.done, row.progress.of, row.progress.left_s) == (3, 12, 30.0)
        assert (row.rate, row.super_images_a_second) == (10.0, 4.0)
        assert administrator.encoding() == Encoding("encode_corpus", row.started_at, 3, 12, 30.0)
        clock = iter([0.0, 1.0, 9.0, 9.0])
        assert Administrator(index.uri).encoding(lambda: next(clock)) is not None
    assert administrator.look().runs[0].status == "ended"
    assert administrator.encoding() is not None, "it is not looked at each time"
    assert administrator.encoding(lambda: time.monotonic() + 60) is None


def test_a_run_that_was_killed_died_and_one_elsewhere_may_be_silent(index, monkeypatch):
    with monkeypatch.context() as patch:
        elsewhere(patch, pid=999_999_999)
        killed = Run(index, "encode_corpus")
        killed.__enter__()
        killed._over.set()
    assert look(index).runs[0].status == "died"
    with monkeypatch.context() as patch:
        elsewhere(patch, boot_id="other")
        far = Run(index, "reindex_corpus", lease_s=30.0)
        far.__enter__()
        far._over.set()
    row, before = look(index).runs[:2]
    assert (row.status, row.live) == ("running", True), "its last beat is not old"
    assert before.status == "died"
    monkeypatch.setattr(administration, "now", lambda: now() + timedelta(seconds=31))
    assert look(index).runs[0].status == "silent"


def test_versions_are_the_newest_and_the_tagged(index, monkeypatch):
    monkeypatch.setattr(administration, "_VERSIONS", 3)
    with writing(index) as writer:
        name = tag(writer)
        tagged = index.version
        for i in range(5):
            writer.record_failures([failed(f"x{i}", "io")])
    found = look(index)
    assert [one.version for one in found.versions] == [tagged + 5, tagged + 4, tagged + 3, tagged]
    assert [one.tag for one in found.versions] == [None, None, None, name]
    assert found.tags == [name]
    assert all(abs(now() - one.at) < timedelta(minutes=5) for one in found.versions)


def test_an_index_that_is_being_made_has_its_run(tmp_path):
    index = new_index(tmp_path / "index", SPEC)
    found = look(index)
    assert (found.videos, found.failures, found.n_runs) == (VideoCounts(0, 0, 0), [], 1)
    lance.dataset(index.table_uri("videos"))
    for name in ("videos", "super_images"):
        (tmp_path / "index" / f"{name}.lance").rename(tmp_path / name)
    found = look(index)
    assert (found.version, found.n_runs, found.versions) == (None, 1, [])


def test_a_table_that_cannot_be_read_is_an_error_that_names_the_index(index, tmp_path):
    for broken in (tmp_path / "index" / "runs.lance" / "data").iterdir():
        broken.write_bytes(b"")
    administrator = Administrator(index.uri)
    with pytest.raises(StorageError, match=r"cannot use .*index"):
        administrator.look()
    assert administrator.encoding() is None


def test_an_index_that_is_gone_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"no index at .*nowhere"):
        Administrator(str(tmp_path / "nowhere")).look()


def test_an_index_of_the_first_format_can_be_looked_at(tmp_path):
    import zipfile
    from pathlib import Path

    with zipfile.ZipFile(Path(__file__).parents[2] / "data" / "index-format-1.zip") as archive:
        archive.extractall(tmp_path)
    (uri,) = {path.parent for path in tmp_path.rglob("videos.lance")}
    found = Administrator(str(uri)).look()
    assert found.videos.encoded == len(Index.open(str(uri)).snapshot().encoded())
    assert found.runs
    json.dumps([run.counts for run in found.runs])
