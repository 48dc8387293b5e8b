import shutil
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
from qasir.errors import NoIndexError, SpecError, UnreadableIndexError
from qasir.index.index import Index, embedding_column
from qasir.index.maintenance import compact
from qasir.index.spec import EncoderSpec
from qasir.retrieval.vector_source import StoredVectors
from qasir.video.corpus import VideoFile
from tests.indexes import new_index, writing

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
    return new_index(tmp_path / "index", SPEC)


@pytest.fixture
def writer(index):
    with writing(index) as writer:
        yield writer


def written(index, video_id, positions, *, fingerprint="f1", value=1.0):
    """The receipt of a batch of one video's super images."""
    vector, cells = np.full(4, 0.5 * value, np.float16).tobytes(), np.zeros(16, np.float16).tobytes()
    images = [
        {
            "index": 0, "video_id": video_id, "fingerprint": fingerprint, "position": p, "n_valid": 4,
            "start_s": 4.0 * p, "end_s": 4.0 * p + 4, "cell_s": [4.0 * p + i for i in range(4)], "embedding": vector,
            "cell_embeddings": cells, "encode_s": 0.1, "began": 1.0,
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
        assert len(database.open_table(name)) == (name == "runs")
    again = Index.open(index.uri)
    assert again.spec == SPEC
    assert again.corpus_root == "/videos"


def test_a_video_is_readable_once_all_its_super_images_are_written(index, writer):
    committer = Committer(writer, {"a": "f1"})
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


def test_what_an_earlier_run_committed_of_a_video_is_kept(index, writer):
    first = Committer(writer, {"a": "f1"})
    first.add(written(index, "a", [0, 2]))
    first.commit()  # and then it is killed
    second = Committer(writer, {"a": "f1"})
    assert second.positions("a") == [0, 2]
    second.add(written(index, "a", [1]))
    second.add(encoded("a", 3))
    second.commit()
    assert [position for _, _, position in readable(index)] == [0, 1, 2]


def test_a_changed_video_switches_at_once_and_its_old_rows_go(index, writer):
    first = Committer(writer, {"a": "f1"})
    first.add(written(index, "a", [0, 1]))
    first.add(encoded("a", 2))
    first.commit()
    second = Committer(writer, {"a": "f2"})
    second.add(written(index, "a", [0], fingerprint="f2"))
    second.commit()
    assert {fingerprint for _, fingerprint, _ in readable(index)} == {"f1"}
    second.add(encoded("a", 1, "f2"))
    second.commit()
    assert readable(index) == [("a", "f2", 0)]
    assert index.table("super_images").count_rows() == 1


def test_a_failed_video_leaves_a_row_and_no_super_images(index, writer):
    committer = Committer(writer, {"a": "f1", "b": "f1"})
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


def test_what_arrives_again_of_a_video_that_is_to_be_planned_again_is_left_out(index, writer):
    committer = Committer(writer, {"a": "f1"})
    committer.add(written(index, "a", [0]))
    changed = Report("a", "uri", 1, "f1", "failed", error_kind="io", error="changed while read: it is gone", n_new=1)
    committer.add(changed)
    committer.commit()
    assert (committer.changed_while_read(), committer.unfinished(), index.states()) == (["a"], [], {})
    assert index.table("super_images").count_rows() == 0
    committer.add(written(index, "a", [0]))
    committer.add(changed)
    committer.commit()
    committer.plan_again({"a": "f2"})
    assert (committer.positions("a"), committer.unfinished()) == ([], ["a"])
    committer.add(written(index, "a", [0], fingerprint="f2"))
    committer.add(encoded("a", 1, "f2"))
    committer.commit()
    assert readable(index) == [("a", "f2", 0)]
    assert (committer.counts.encoded, committer.counts.failed) == (1, 0)


def test_what_an_older_version_left_of_a_video_with_nan_is_encoded_anew(index, writer):
    vectors = written(index, "a", [0, 1]).fragments
    writer.commit_super_images(vectors)
    rows = index.table("super_images").to_table()
    at = rows.schema.get_field_index("embedding")
    spoilt = rows.set_column(at, "embedding", embedding_column(np.array([[0.5] * 4, [np.nan] * 4])))
    writer.delete_versions([("a", "f1")])
    writer.commit_super_images(index.write_super_images(spoilt))
    committer = Committer(writer, {"a": "f1"})
    assert committer.positions("a") == []
    committer.add(written(index, "a", [0, 1]))
    committer.add(encoded("a", 2))
    committer.commit()
    assert readable(index) == [("a", "f1", 0), ("a", "f1", 1)]
    assert index.table("super_images").count_rows() == 2


def test_ids_with_quotes_are_just_ids(index, writer):
    name = 'it\'s "odd"; DROP'
    committer = Committer(writer, {name: "f1"})
    committer.add(written(index, name, [0]))
    committer.commit()
    committer.add(failed(name))
    committer.commit()
    assert index.table("super_images").count_rows() == 0
    assert len(index.snapshot().super_images([], video_ids=[name])) == 0


def test_loading_renormalises_and_groups_by_video(index, writer):
    committer = Committer(writer, {"a": "f1", "b": "f1"})
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
        Index.open_or_new(index.uri, replace(SPEC, grid=3), "/videos")
    with pytest.raises(SpecError, match="another corpus"):
        Index.open_or_new(index.uri, SPEC, "/elsewhere")
    Index.open_or_new(index.uri, replace(SPEC, library_version="9.9"), "/videos")


def test_no_index_there(tmp_path):
    with pytest.raises(NoIndexError, match="no index at"):
        Index.open(str(tmp_path / "nowhere"))


def test_a_half_made_index_is_made_whole(tmp_path):
    index = new_index(tmp_path / "index", SPEC)
    shutil.rmtree(f"{index.uri}/videos.lance")
    assert new_index(index.uri, SPEC).states() == {}
    assert Index.open(index.uri).spec == SPEC


def test_tables_that_cannot_be_read_are_never_replaced(index):
    with writing(index) as writer:
        committer = Committer(writer, {"a": "f1"})
        committer.add(written(index, "a", [0]))
        committer.add(encoded("a", 1))
        committer.commit()
    (manifest, *_) = sorted(Path(index.uri, "videos.lance", "_versions").iterdir())
    manifest.write_bytes(b"xx")
    for open_it in (Index.open, lambda uri: Index.open_or_new(uri, SPEC, "/videos")):
        with pytest.raises(UnreadableIndexError, match="cannot read"):
            open_it(index.uri)
    shutil.rmtree(f"{index.uri}/videos.lance")
    with pytest.raises(UnreadableIndexError, match="rows in `super_images` but no table `videos`"):
        new_index(index.uri, SPEC)


def test_small_fragments_are_merged(index, writer):
    committer = Committer(writer, {str(i): "f1" for i in range(70)})
    for i in range(70):
        committer.add(written(index, str(i), [0]))
        committer.add(encoded(str(i), 1))
    committer.commit()
    assert len(index.table("super_images").get_fragments()) == 70
    compact(writer)
    assert len(index.table("super_images").get_fragments()) < 5
    assert len(readable(index)) == 70


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


def test_a_video_is_complete_when_all_its_segments_are(index, writer):
    committer = Committer(writer, {"a": "f1"})
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


def test_rows_of_a_failed_video_that_come_late_are_deleted_too(index, writer):
    committer = Committer(writer, {"a": "f1"})
    committer.add(written(index, "a", [0]))
    committer.add(segment(0, 2, [0, 1]))
    committer.add(segment(1, 0, [], status="failed", error_kind="decode", error="bad"))
    committer.commit()
    assert index.states() == {}, "a row of the first segment is still on its way"
    committer.add(written(index, "a", [1]))
    committer.commit()
    assert index.states()["a"].status == "failed"
    assert index.table("super_images").count_rows() == 0


def test_a_batch_that_arrives_twice_is_kept_once(index, writer):
    committer = Committer(writer, {"a": "f1"})
    for _ in range(2):
        committer.add(written(index, "a", [0, 1]))
    committer.add(encoded("a", 2))
    committer.commit()
    committer.add(written(index, "a", [1]))
    committer.commit()
    assert [position for _, _, position in readable(index)] == [0, 1]
    assert index.table("super_images").count_rows() == 2


def test_tables_are_plain_lance_tables(index, writer):
    committer = Committer(writer, {"a": "f1"})
    committer.add(written(index, "a", [0, 1]))
    committer.add(encoded("a", 2))
    committer.commit()
    assert lance.dataset(f"{index.uri}/videos.lance").to_table() == index.table("videos").to_table()
    assert lance.dataset(f"{index.uri}/super_images.lance").count_rows() == 2
