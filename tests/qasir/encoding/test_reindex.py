"""Re-indexing on the plain loop, in this process."""

import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lance
import pytest

from qasir.encoding.options import EncodeOptions, EncoderOptions, ReindexOptions
from qasir.encoding.plain_loop import PlainLoop
from qasir.encoding.prepare import prepare, source_to_extend
from qasir.encoding.reindex import plan_reindex, reindex_corpus
from qasir.errors import CorpusError, IndexHeldError, ModelError
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.maintenance import newest_tag
from qasir.index.writer import Writer
from qasir.video.corpus import list_videos
from qasir.vlm.weights import resolve
from tests.qasir.encoding.stubs import SPEC, PixelModel, encode_stubbed
from tests.videos import write_video

BARE = replace(SPEC, cells=False)
N_VIDEOS = 12


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A corpus of twelve videos and its index; tests copy both."""
    base = tmp_path_factory.mktemp("reindex")
    for i in range(N_VIDEOS):
        write_video(base / "videos" / f"v{i:02}.mp4", 10 + i)
    (base / "videos" / "bad.mp4").write_bytes(b"nothing")
    encode_stubbed(base / "videos", base / "index", spec=BARE)
    return base


@pytest.fixture
def corpus(encoded, tmp_path, monkeypatch):
    """The folder of videos and the index, at the place they were made: the index knows it."""
    kept = tmp_path / "kept"
    shutil.copytree(encoded, kept, copy_function=shutil.copy2)
    yield encoded / "videos", Index.open(str(encoded / "index"))
    shutil.rmtree(encoded)
    shutil.copytree(kept, encoded, copy_function=shutil.copy2)


def stages(indexes):
    return PlainLoop(indexes, lambda: [PixelModel()] * len(indexes), EncodeOptions(), isolate=False)


def reindex(folder, index, **options):
    corpus = list_videos(str(folder))
    (summary,) = reindex_corpus(corpus, [index], stages, ReindexOptions(**options), EncodeOptions())
    return summary


def counts(summary):
    return summary.new, summary.changed, summary.removed, summary.unchanged, summary.failed


def versions(index):
    return [index.table(name).version for name in ("videos", "super_images")]


def test_new_changed_and_removed_videos(corpus):
    folder, index = corpus
    before = {row["video_id"]: row["encoded_at"] for row in index.table("videos").to_table().to_pylist()}
    write_video(folder / "v00.mp4", 45)
    write_video(folder / "new.mp4", 25)
    (folder / "v05.mp4").unlink()
    planned = plan_reindex(list_videos(str(folder)), index, ReindexOptions())
    assert counts(planned) == (1, 1, 1, N_VIDEOS - 1, 0)
    summary = reindex(folder, index)
    assert counts(summary) == (1, 1, 1, N_VIDEOS - 1, 0)
    rows = {row["video_id"]: row for row in index.table("videos").to_table().to_pylist()}
    assert "v05" not in rows
    assert rows["v00"]["n_sampled"] == 9
    assert {v for v in before if v in rows and rows[v]["encoded_at"] == before[v]} == set(before) - {"v00", "v05"}
    readable = index.snapshot().super_images([])
    assert index.table("super_images").count_rows() == len(readable)
    assert {v["video_id"] for v in readable.to_pylist()} == set(rows) - {"bad"}
    # The tag checks out what this run left.
    assert lance.dataset(index.table_uri("videos"), version=summary.version).count_rows() == len(rows)
    (run,) = index.table("runs").to_table(filter="job = 'reindex_corpus'").to_pylist()
    assert '"removed": 1' in run["counts"]
    assert '"bottleneck"' in run["seconds"]


def test_an_unchanged_corpus_costs_nothing_and_keeps_its_tag(corpus):
    folder, index = corpus
    first = reindex(folder, index)
    before = versions(index)
    again = reindex(folder, index)
    assert counts(again) == (0, 0, 0, N_VIDEOS + 1, 0)
    assert again.version == first.version
    assert versions(index) == before


def test_a_plan_changes_nothing(corpus):
    folder, index = corpus
    write_video(folder / "new.mp4", 25)
    before = [index.table(name).version for name in ("videos", "super_images", "runs")]
    assert plan_reindex(list_videos(str(folder)), index, ReindexOptions()).new == 1
    assert [index.table(name).version for name in ("videos", "super_images", "runs")] == before


def test_too_many_removals_are_an_error_that_changes_nothing(corpus):
    folder, index = corpus
    for i in range(2):
        (folder / f"v{i:02}.mp4").unlink()
    before = [index.table(name).version for name in ("videos", "super_images", "runs")]
    with pytest.raises(CorpusError, match=r"2 of the 13 videos .* are gone, 'v00' first.*--max-removed"):
        reindex(folder, index)
    assert [index.table(name).version for name in ("videos", "super_images", "runs")] == before
    assert reindex(folder, index, max_removed=0.2).removed == 2


def test_a_manifest_whose_files_are_not_mounted_removes_nothing(tmp_path):
    write_video(tmp_path / "disk" / "a.mp4", 10)
    write_video(tmp_path / "disk" / "b.mp4", 10)
    manifest = tmp_path / "list.csv"
    manifest.write_text("uri\ndisk/a.mp4\ndisk/b.mp4\n")
    _, index = encode_stubbed(manifest, tmp_path / "index")
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    assert encode_stubbed(manifest, tmp_path / "index")[0].failed == 0
    with pytest.raises(CorpusError, match="2 of the 2 videos"):
        reindex(manifest, index)
    assert len(index.snapshot().super_images([])) == 2


def test_failed_videos_are_tried_again_when_asked(corpus):
    folder, index = corpus
    summary = reindex(folder, index, retry_failed=True)
    assert (summary.retried, summary.failed, summary.failures_by_kind) == (1, 1, {"not_a_video": 1})
    assert counts(summary) == (0, 0, 0, N_VIDEOS, 1)


def test_old_versions_and_tags_go_but_for_the_last_two_and_no_file_that_may_be_committed(corpus):
    folder, index = corpus
    tags = []
    orphans = index.write_super_images(index.table("super_images").to_table().slice(0, 2))
    for n in range(4):
        time.sleep(1.1)  # tags are named by the second
        write_video(folder / f"new{n}.mp4", 25)
        tags.append(reindex(folder, index, keep_versions_for=timedelta(0)).version)
    assert newest_tag(index) == tags[-1]
    for name in ("videos", "super_images"):
        table = index.table(name)
        assert sorted(table.tags.list()) == tags[-2:]
        kept = {table.tags.list()[tag]["version"] for tag in tags[-2:]}
        assert {entry["version"] for entry in table.versions()} == kept
    data = Path(index.uri, "super_images.lance", "data")
    assert {file.path for fragment in orphans for file in fragment.files} <= {path.name for path in data.iterdir()}
    assert len(index.snapshot().super_images([])) == index.table("super_images").count_rows()


def test_an_index_that_was_quiet_for_longer_than_versions_are_kept_loses_neither_its_reader_nor_its_undo(corpus):
    folder, index = corpus
    before = reindex(folder, index).version
    reader = index.snapshot()
    time.sleep(1.1)
    write_video(folder / "new.mp4", 25)
    assert reindex(folder, index, keep_versions_for=timedelta(seconds=1)).version != before
    assert len(reader.videos()) == N_VIDEOS + 1
    assert len(reader.super_images(["embedding"])) > 0
    assert len(index.snapshot(before).videos()) == N_VIDEOS + 1


def test_small_fragments_are_compacted_and_the_vector_index_follows(corpus):
    folder, index = corpus
    table = index.table("super_images")
    table.create_index("embedding", "IVF_FLAT", metric="dot", num_partitions=1)
    for i in range(9):
        write_video(folder / f"x{i}.mp4", 10)
        encode_stubbed(folder, index.uri, spec=BARE)
    assert len(index.table("super_images").get_fragments()) > 8
    write_video(folder / "new.mp4", 25)
    reindex(folder, index)
    table = index.table("super_images")
    assert len(table.get_fragments()) <= 2
    for entry in table.list_indices():
        assert table.stats.index_stats(entry["name"])["num_unindexed_rows"] == 0


def test_a_held_index_is_an_error(corpus):
    folder, index = corpus
    with Run(index, "encode_corpus"), pytest.raises(IndexHeldError, match="encode_corpus"):
        reindex(folder, index)


def test_weights_that_changed_since_are_an_error(tmp_path):
    """More videos encoded by other weights would not be comparable."""
    write_video(tmp_path / "videos" / "a.mp4", 10)
    weights = tmp_path / "weights.safetensors"
    shutil.copy(resolve("qasir-tiny").checkpoint, weights)
    videos = list_videos(str(tmp_path / "videos"))
    index, _ = prepare(EncoderOptions(pretrained=str(weights)), str(tmp_path / "index"), videos)
    assert source_to_extend(index).checkpoint == weights
    with open(weights, "ab") as file:
        file.write(b"another")
    with pytest.raises(ModelError, match="the weights of 'qasir-tiny' are not those that made the index"):
        source_to_extend(index)


def test_several_indexes_are_brought_up_to_date_together(corpus, tmp_path):
    folder, index = corpus
    _, other = encode_stubbed(folder, tmp_path / "other", spec=replace(BARE, grid=3, fps=5.0))
    write_video(folder / "zz.mp4", 10)
    encode_stubbed(folder, index.uri, spec=BARE)
    summaries = reindex_corpus(list_videos(str(folder)), [index, other], stages, ReindexOptions(), EncodeOptions())
    assert [(s.new, s.unchanged) for s in summaries] == [(0, N_VIDEOS + 2), (1, N_VIDEOS + 1)]
    assert "zz" in other.states()


def test_a_reader_sees_old_rows_or_new_ones_at_every_step(corpus, monkeypatch):
    """Every commit that a re-index makes is followed by a read."""
    folder, index = corpus
    old = {row["video_id"]: row["fingerprint"] for row in index.snapshot().super_images([]).to_pylist()}
    write_video(folder / "v00.mp4", 45)
    (folder / "v05.mp4").unlink()
    new = {v.video_id: v.fingerprint for v in list_videos(str(folder)).videos}
    seen = []

    def read():
        rows = index.snapshot().super_images([]).to_pylist()
        for video_id in {row["video_id"] for row in rows}:
            mine = [row for row in rows if row["video_id"] == video_id]
            assert len({row["fingerprint"] for row in mine}) == 1
            assert mine[0]["fingerprint"] in (old.get(video_id), new.get(video_id))
        present = {row["video_id"] for row in rows}
        assert set(old) - {"v05"} <= present
        seen.append(next(row["fingerprint"] for row in rows if row["video_id"] == "v00"))

    for name in ("commit_super_images", "upsert_videos", "delete_stale", "remove"):
        real = getattr(Writer, name)

        def step(self, *args, real=real):
            result = real(self, *args)
            read()
            return result

        monkeypatch.setattr(Writer, name, step)
    reindex(folder, index)
    assert {seen[0], seen[-1]} == {old["v00"], new["v00"]}
