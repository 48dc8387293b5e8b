import shutil
import time
from dataclasses import replace
from pathlib import Path

import lance
import lancedb
import numpy as np
import pyarrow as pa
import pytest

from qasir.encoding.commit import Committer
from qasir.encoding.receipts import written_of
from qasir.encoding.reports import Report
from qasir.encoding.rows import ENCODED_SCHEMA, plan_table, whole_video
from qasir.encoding.write import write_rows
from qasir.errors import IndexHeldError, NoIndexError, SpecError, UnreadableIndexError
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.maintenance import TIDIED, compact, tidy
from qasir.index.spec import EncoderSpec
from qasir.retrieval.vector_source import StoredVectors
from qasir.video.corpus import VideoFile

SPEC = EncoderSpec(
    model="m",
    pretrained="p",
    weights="w",
    grid=2,
    image_size=8,
    fps=1.0,
    embedding_dim=4,
    precision="fp32",
    thumbnails=False,
)


@pytest.fixture
def index(tmp_path):
    return Index.open_or_create(str(tmp_path / "index"), SPEC, "/videos")


def written(index, video_id, positions, *, fingerprint="f1", value=1.0):
    """The receipt of a batch of one video's super images."""
    vector, cells = np.full(4, 0.5 * value, np.float16).tobytes(), np.zeros(16, np.float16).tobytes()
    images = [
        {
            "index": 0, "video_id": video_id, "fingerprint": fingerprint, "position": p, "n_valid": 4,
            "start_s": 4.0 * p, "end_s": 4.0 * p + 4, "embedding": vector, "cell_embeddings": cells, "encode_s": 0.1,
            "began": 1.0,
        }
        for p in positions
    ]  # fmt: skip
    (receipt,) = written_of(write_rows(pa.Table.from_pylist(images, schema=ENCODED_SCHEMA), [index]))
    return receipt


def encoded(video_id, n, fingerprint="f1"):
    return Report(video_id, "uri", 1, fingerprint, "encoded", duration_s=4.0 * n, n_sampled=4 * n, n_super_images=n)


def failed(video_id, fingerprint="f1"):
    return Report(video_id, "uri", 1, fingerprint, "failed", error_kind="decode", error="bad")


def readable(index):
    return [(r["video_id"], r["fingerprint"], r["position"]) for r in index.snapshot().super_images([]).to_pylist()]


def test_the_tables_open_with_lancedb_and_carry_the_spec(index):
    database = lancedb.connect(index.uri)
    for name in ("videos", "super_images", "runs"):
        assert len(database.open_table(name)) == 0
    again = Index.open(index.uri)
    assert again.spec == SPEC
    assert again.corpus_root == "/videos"


def test_a_video_is_readable_once_all_its_super_images_are_written(index):
    committer = Committer(index, {"a": "f1"})
    committer.add(written(index, "a", [0, 1]))
    committer.add(encoded("a", 3))
    committer.commit()
    assert index.table("super_images").count_rows() == 2
    assert readable(index) == []
    committer.add(written(index, "a", [2], value=-1.0))
    committer.commit()
    assert readable(index) == [("a", "f1", 0), ("a", "f1", 1), ("a", "f1", 2)]
    (row,) = index.table("videos").to_table().to_pylist()
    assert row["status"] == "encoded"
    np.testing.assert_allclose(row["embedding"], [0.5 / 3] * 4, atol=1e-3)


def test_what_an_earlier_run_committed_of_a_video_is_kept(index):
    first = Committer(index, {"a": "f1"})
    first.add(written(index, "a", [0, 2]))
    first.commit()  # and then it is killed
    second = Committer(index, {"a": "f1"})
    assert second.positions("a") == [0, 2]
    second.add(written(index, "a", [1]))
    second.add(encoded("a", 3))
    second.commit()
    assert [position for _, _, position in readable(index)] == [0, 1, 2]


def test_a_changed_video_switches_at_once_and_its_old_rows_go(index):
    first = Committer(index, {"a": "f1"})
    first.add(written(index, "a", [0, 1]))
    first.add(encoded("a", 2))
    first.commit()
    second = Committer(index, {"a": "f2"})
    second.add(written(index, "a", [0], fingerprint="f2"))
    second.commit()
    assert {fingerprint for _, fingerprint, _ in readable(index)} == {"f1"}
    second.add(encoded("a", 1, "f2"))
    second.commit()
    assert readable(index) == [("a", "f2", 0)]
    assert index.table("super_images").count_rows() == 1


def test_a_failed_video_leaves_a_row_and_no_super_images(index):
    committer = Committer(index, {"a": "f1", "b": "f1"})
    committer.add(written(index, "a", [0, 1]))
    committer.add(written(index, "b", [0]))
    committer.add(encoded("b", 1))
    committer.commit()
    committer.add(failed("a"))
    committer.commit()
    assert readable(index) == [("b", "f1", 0)]
    assert index.table("super_images").count_rows() == 1
    states = index.states()
    assert (states["a"].status, states["b"].status) == ("failed", "encoded")
    assert committer.counts.failures_by_kind == {"decode": 1}


def test_ids_with_quotes_are_just_ids(index):
    name = 'it\'s "odd"; DROP'
    committer = Committer(index, {name: "f1"})
    committer.add(written(index, name, [0]))
    committer.commit()
    committer.add(failed(name))
    committer.commit()
    assert index.table("super_images").count_rows() == 0
    assert len(index.snapshot().super_images([], video_ids=[name])) == 0


def test_loading_renormalises_and_groups_by_video(index):
    committer = Committer(index, {"a": "f1", "b": "f1"})
    committer.add(written(index, "b", [1, 0]))
    committer.add(encoded("b", 2))
    committer.add(written(index, "a", [0], value=0.3))
    committer.add(encoded("a", 1))
    committer.commit()
    images = StoredVectors(index.snapshot()).load()
    assert images.video_ids == ["a", "b"]
    assert images.features.length.tolist() == [1, 2]
    assert images.start_s.tolist() == [0.0, 0.0, 4.0]
    assert StoredVectors(index.snapshot()).videos().durations_s.tolist() == [4.0, 8.0]
    np.testing.assert_allclose(np.linalg.norm(images.features.vectors, axis=1), 1.0, atol=1e-6)


def test_another_spec_is_an_error_that_shows_both(index):
    with pytest.raises(SpecError, match=r"grid: 2 in the index, 3 asked for"):
        Index.open_or_create(index.uri, replace(SPEC, grid=3), "/videos")
    with pytest.raises(SpecError, match="another corpus"):
        Index.open_or_create(index.uri, SPEC, "/elsewhere")
    Index.open_or_create(index.uri, replace(SPEC, library_version="9.9"), "/videos")


def test_no_index_there(tmp_path):
    with pytest.raises(NoIndexError, match="no index at"):
        Index.open(str(tmp_path / "nowhere"))


def test_a_half_made_index_is_made_whole(tmp_path):
    uri = str(tmp_path / "index")
    Index.open_or_create(uri, SPEC, "/videos")
    shutil.rmtree(f"{uri}/videos.lance")
    assert Index.open_or_create(uri, SPEC, "/videos").states() == {}


def test_tables_that_cannot_be_read_are_never_replaced(index):
    committer = Committer(index, {"a": "f1"})
    committer.add(written(index, "a", [0]))
    committer.add(encoded("a", 1))
    committer.commit()
    (manifest, *_) = sorted(Path(index.uri, "videos.lance", "_versions").iterdir())
    manifest.write_bytes(b"xx")
    for open_it in (Index.open, lambda uri: Index.open_or_create(uri, SPEC, "/videos")):
        with pytest.raises(UnreadableIndexError, match="cannot read"):
            open_it(index.uri)
    shutil.rmtree(f"{index.uri}/videos.lance")
    with pytest.raises(UnreadableIndexError, match="rows in `super_images` but no table `videos`"):
        Index.open_or_create(index.uri, SPEC, "/videos")


def test_small_fragments_are_merged(index):
    committer = Committer(index, {str(i): "f1" for i in range(70)})
    for i in range(70):
        committer.add(written(index, str(i), [0]))
        committer.add(encoded(str(i), 1))
    committer.commit()
    assert len(index.table("super_images").get_fragments()) == 70
    compact(index, "videos", "super_images")
    assert len(index.table("super_images").get_fragments()) < 5
    assert len(readable(index)) == 70


def test_a_run_is_recorded_and_holds_the_index(index, monkeypatch):
    with Run(index, "encode") as run:
        run.counts = {"encoded": 3}
        with pytest.raises(IndexHeldError, match="is being written by encode on .* since"), Run(index, "second"):
            pass
    (row,) = index.table("runs").to_table().to_pylist()
    assert row["ended"] is not None
    assert row["counts"] == '{"encoded": 3}'
    assert "torch" in row["versions"]
    with Run(index, "third"):
        pass


def test_a_dead_holder_of_this_machine_holds_nothing(index, monkeypatch):
    monkeypatch.setattr("qasir.index.lease.holder", lambda: f"{__import__('socket').gethostname()}:999999")
    Run(index, "killed").__enter__()
    monkeypatch.undo()
    with Run(index, "next"):
        pass
    killed, after = index.table("runs").to_table().sort_by("started").to_pylist()
    assert (killed["job"], killed["ended"]) == ("killed", None)
    assert (after["job"], after["ended"] is None) == ("next", False)


def test_a_run_whose_lease_ran_out_must_not_write(index, monkeypatch):
    with Run(index, "suspended") as run:
        run.check()
        monkeypatch.setattr("qasir.index.lease.time.time", lambda now=time.time: now() + 91)
        with pytest.raises(IndexHeldError, match="could not renew its lease"):
            run.check()


def test_an_error_in_a_run_is_recorded(index):
    with pytest.raises(RuntimeError), Run(index, "bad"):
        raise RuntimeError("boom")
    (row,) = index.table("runs").to_table().to_pylist()
    assert "boom" in row["counts"]
    assert row["ended"] is not None


def test_rows_that_a_killed_run_left_are_deleted_once_and_what_is_needed_is_kept(index):
    committer = Committer(index, {"a": "f1", "b": "f1"})
    for receipt in (written(index, "a", [0]), encoded("a", 1), written(index, "b", [0])):
        committer.add(receipt)
    for orphan in (written(index, "a", [1], fingerprint="f0"), written(index, "gone", [0])):
        index.commit_super_images(orphan.fragments)
    committer.commit()
    with pytest.raises(RuntimeError), Run(index, "fails"):
        raise RuntimeError
    with Run(index, "unrelated"):
        pass
    with Run(index, "tidies") as run:
        assert run.may_have_orphans
        run.counts[TIDIED] = tidy(index, {"b": "f1"})
        assert run.counts[TIDIED] == 2
    rows = index.table("super_images").to_table(columns=["video_id", "fingerprint"]).to_pylist()
    assert sorted((row["video_id"], row["fingerprint"]) for row in rows) == [("a", "f1"), ("b", "f1")]
    with Run(index, "next") as run:
        assert not run.may_have_orphans


def test_plan_rows_round_trip():
    table = plan_table([VideoFile("a", "u", 1, "f")], {"a": {1: [3]}})
    (row,) = table.to_pylist()
    assert row == {
        "video_id": "a", "uri": "u", "size_bytes": 1, "fingerprint": "f", "problem": None,
        "needs": [{"index": 1, "committed": [3]}],
    }  # fmt: skip
    (segment,) = whole_video(row).to_pylist()
    assert (segment["segment"], segment["n_segments"], segment["stop_s"]) == (0, 1, None)


def segment(number, n, positions, *, of=2, status="encoded", **facts):
    return Report(
        "a", "uri", 1, "f1", status, segment=number, n_segments=of, n_sampled=4 * n, n_super_images=n,
        n_new=len(positions), **facts,
    )  # fmt: skip


def test_a_video_is_complete_when_all_its_segments_are(index):
    committer = Committer(index, {"a": "f1"})
    committer.add(written(index, "a", [2, 3]))
    committer.add(segment(1, 2, [2, 3], duration_s=15.5, decode_errors=1))
    committer.commit()
    assert readable(index) == []
    committer.add(written(index, "a", [0]))
    committer.add(segment(0, 2, [0, 1]))
    committer.commit()
    assert readable(index) == []
    committer.add(written(index, "a", [1]))
    committer.commit()
    (row,) = index.table("videos").to_table().to_pylist()
    assert (row["n_super_images"], row["n_sampled"], row["duration_s"], row["decode_errors"]) == (4, 16, 15.5, 1)
    assert [position for _, _, position in readable(index)] == [0, 1, 2, 3]


def test_rows_of_a_failed_video_that_come_late_are_deleted_too(index):
    committer = Committer(index, {"a": "f1"})
    committer.add(written(index, "a", [0]))
    committer.add(segment(0, 2, [0, 1]))
    committer.add(segment(1, 0, [], status="failed", error_kind="decode", error="bad"))
    committer.commit()
    assert index.states() == {}, "a row of the first segment is still on its way"
    committer.add(written(index, "a", [1]))
    committer.commit()
    assert index.states()["a"].status == "failed"
    assert index.table("super_images").count_rows() == 0


def test_a_batch_that_arrives_twice_is_kept_once(index):
    committer = Committer(index, {"a": "f1"})
    for _ in range(2):
        committer.add(written(index, "a", [0, 1]))
    committer.add(encoded("a", 2))
    committer.commit()
    committer.add(written(index, "a", [1]))
    committer.commit()
    assert [position for _, _, position in readable(index)] == [0, 1]
    assert index.table("super_images").count_rows() == 2


def test_tables_are_plain_lance_tables(index):
    committer = Committer(index, {"a": "f1"})
    committer.add(written(index, "a", [0, 1]))
    committer.add(encoded("a", 2))
    committer.commit()
    assert lance.dataset(f"{index.uri}/videos.lance").to_table() == index.table("videos").to_table()
    assert lance.dataset(f"{index.uri}/super_images.lance").count_rows() == 2
