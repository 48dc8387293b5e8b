"""What the next run makes of an index that a run left with rows that do not add up, or a power loss cut."""

from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.fragment import write_fragments

from jobs import apply_finetuned
from jobs import reindex_corpus as job
from qasir.encoding.options import EncodeOptions, ReindexOptions
from qasir.encoding.plain_loop import PlainLoop
from qasir.encoding.reindex import plan_reindex, reindex_corpus
from qasir.errors import IndexHeldError, NoIndexError, UnreadableIndexError
from qasir.index.index import Index, embedding_column
from qasir.index.lease import Run
from qasir.index.recovery import open_damaged
from qasir.index.verification import broken_videos
from qasir.video.corpus import list_videos
from tests.indexes import make_index, writing
from tests.jobs.test_jobs import call
from tests.qasir.encoding.stubs import PixelModel, encode_stubbed
from tests.qasir.encoding.test_encode import contents
from tests.qasir.retrieval.test_tuned import make_checkpoint
from tests.videos import write_video


@pytest.fixture
def videos(tmp_path):
    for name, n in (("a", 45), ("b", 25), ("c", 12)):
        write_video(tmp_path / "videos" / f"{name}.mp4", n)
    return tmp_path / "videos"


@pytest.fixture
def index(videos, tmp_path):
    return encode_stubbed(videos, tmp_path / "index")[1]


def repair(videos, uri):
    """As the job does it."""
    index = open_damaged(str(uri))

    def stages(indexes):
        return PlainLoop(indexes, lambda: [PixelModel()] * len(indexes), EncodeOptions(), isolate=False)

    corpus = list_videos(str(videos))
    (summary,) = reindex_corpus(corpus, [index], stages, ReindexOptions(repair=True), EncodeOptions())
    return summary


def append(index, rows):
    """A commit by one who has lost the index: nobody checks."""
    append_to(index, "super_images", rows)


def append_to(index, name, rows):
    table = index.table(name)
    fragments = write_fragments(rows.select(table.schema.names).cast(table.schema), table.uri, schema=table.schema)
    lance.LanceDataset.commit(table.uri, lance.LanceOperation.Append(fragments), read_version=table.version)


def rows_of(index, video_id):
    rows = index.table("super_images").to_table()
    return rows.filter(pa.compute.equal(rows["video_id"], video_id))


def test_a_run_that_ended_well_leaves_nothing_to_look_at(videos, index):
    with Run(index, "next") as run:
        assert run.is_clean
    assert encode_stubbed(videos, index.uri)[0].unchanged == 3


@pytest.mark.parametrize("damage", ["doubled", "missing", "strange"])
def test_rows_that_one_wrote_who_had_lost_the_index_are_found_by_the_next_run(videos, index, damage):
    expected = contents(index)
    if damage == "doubled":
        append(index, rows_of(index, "a").slice(0, 1))
    elif damage == "missing":
        index.table("super_images").delete("video_id = 'b' AND position = 0")
        append(index, rows_of(index, "b").slice(0, 0))
    else:
        append(index, rows_of(index, "c").drop_columns(["fingerprint"]).append_column("fingerprint", [["x"]]))
    summary, _ = encode_stubbed(videos, index.uri)
    assert contents(index) == expected
    assert summary.encoded == (0 if damage == "strange" else 1)
    assert broken_videos(index) == []
    with Run(index, "next") as run:
        assert run.is_clean


def test_a_run_that_is_overtaken_in_the_middle_of_a_commit_does_not_call_itself_clean(index):
    with Run(index, "holds") as run:
        append(index, rows_of(index, "a").slice(0, 1))
        run.writer.remove(["c"])
        assert run.writer.saw_others
    with Run(index, "next") as run:
        assert not run.is_clean


def test_only_what_was_written_since_is_looked_at_and_everything_on_demand(videos, index, tmp_path):
    """A row that is missing from of old shows only to --repair."""
    expected = contents(index)
    with writing(index) as writer, writer.changing("super_images", commits=1) as table:
        table.delete("video_id = 'a' AND position = 0")
    assert broken_videos(index) == ["a"]
    assert broken_videos(index, ["b", "c"]) == []
    assert encode_stubbed(videos, index.uri)[0].encoded == 0
    summary = repair(videos, index.uri)
    assert (summary.new, summary.unchanged, summary.repaired.videos) == (1, 2, 1)
    assert contents(index) == expected


def test_embeddings_that_are_not_finite_are_made_again(videos, index):
    expected = contents(index)
    rows = rows_of(index, "b")
    at = rows.schema.get_field_index("embedding")
    broken = rows.set_column(at, "embedding", embedding_column(np.full((len(rows), 12), np.nan)))
    with writing(index) as writer:
        writer.delete_versions([("b", rows["fingerprint"][0].as_py())])
        writer.commit_super_images(index.write_super_images(broken))
    assert repair(videos, index.uri).repaired.videos == 1
    assert contents(index) == expected


def newest_manifest(index, name):
    return min(Path(index.table_uri(name), "_versions").glob("*.manifest"))


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"cut"])
@pytest.mark.parametrize("name", ["videos", "super_images", "runs"])
def test_a_newest_manifest_that_a_power_loss_emptied_is_deleted_and_what_it_held_done_again(
    videos, index, name, content, monkeypatch
):
    expected = contents(index)
    monkeypatch.setattr("qasir.index.process.Process.is_alive", lambda self: False)  # nobody outlives a power loss
    manifest = newest_manifest(index, name)
    manifest.write_bytes(content)
    if name == "videos":
        with pytest.raises(UnreadableIndexError, match=rf"{manifest.name} was not written whole.*--repair"):
            Index.open(index.uri)
    summary = repair(videos, index.uri)
    assert contents(Index.open(index.uri)) == expected
    if name != "runs":
        assert summary.repaired.manifests == [str(manifest)]
    with Run(Index.open(index.uri), "next") as run:
        assert run.is_clean


@pytest.mark.parametrize("name", ["videos", "super_images"])
def test_data_files_that_were_not_written_whole_are_given_up(videos, index, name):
    expected = contents(index)
    largest = max(Path(index.table_uri(name), "data").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])
    summary = repair(videos, index.uri)
    assert summary.repaired.fragments == 1
    assert contents(Index.open(index.uri)) == expected


def test_an_index_of_which_nothing_can_be_read_says_so(index, tmp_path):
    with pytest.raises(NoIndexError, match="no index at"):
        open_damaged(str(tmp_path / "nowhere"))
    for name in ("videos", "super_images", "runs"):
        for manifest in Path(index.table_uri(name), "_versions").glob("*.manifest"):
            manifest.write_bytes(b"")
    with pytest.raises(UnreadableIndexError, match="no version that can be read"):
        open_damaged(index.uri)


def test_a_plan_shows_who_holds_the_index(videos, index, capsys):
    def plan():
        summary = plan_reindex(list_videos(str(videos)), index, ReindexOptions())
        job._print(summary, index.uri, plan=True)
        return summary, capsys.readouterr().out

    summary, said = plan()
    assert summary.holding.state == "free"
    assert f"held by nobody; last by encode_corpus on {summary.holding.holder}, epoch 1, last beat" in said
    with Run(index, "build_vector_index"):
        summary, said = plan()
        assert summary.holding.epoch == 2
        assert "held by build_vector_index on" in said


def test_a_video_that_two_runs_wrote_at_once_is_one_again(videos, index):
    """An overlap can leave two rows of one video, which Lance lets both in."""
    expected = contents(index)
    rows = index.table("videos").to_table()
    append_to(index, "videos", rows.filter(pa.compute.equal(rows["video_id"], "a")))
    assert broken_videos(index) == broken_videos(index, ["a"]) == ["a"]
    assert encode_stubbed(videos, index.uri)[0].encoded == 1
    assert contents(index) == expected


def test_what_a_run_that_lost_the_index_deletes_while_another_compacts_is_noticed(index):
    with Run(index, "compacts") as run:
        with run.writer.changing("super_images"):
            index.table("super_images").delete("video_id = 'b'")
        assert run.writer.saw_others


def test_a_run_that_has_the_same_epoch_as_another_holds_nothing(index, tmp_path):
    """Where the row of a live holder was lost with a manifest, the next takes its epoch again."""
    with Run(index, "first") as first:
        newest_manifest(index, "runs").unlink()
        with Run(index, "second") as second:
            assert second.epoch == first.epoch
            with pytest.raises(IndexHeldError):
                first.check()
            second.check()


def test_applying_a_checkpoint_looks_at_its_output_after_a_kill(tmp_path):
    source = make_index(tmp_path / "i", [3, 2])
    make_checkpoint(tmp_path / "c", source.spec)
    args = ("--index", source.uri, "--finetuned", tmp_path / "c", "--output", tmp_path / "out", "--json")
    assert call(apply_finetuned, *args)[2]["applied"] == 2
    output = Index.open(str(tmp_path / "out"))
    output.table("super_images").delete("video_id = 'v000' AND position = 0")
    assert call(apply_finetuned, *args)[2]["applied"] == 1
    assert broken_videos(output) == []
