"""Versions of files that fail: what stays searchable, what the row says, and when they are tried again."""

import os
from dataclasses import replace

import numpy as np
import pytest

from qasir.encoding.decode import Decoded, decode_segments
from qasir.encoding.failures import too_many_failed
from qasir.encoding.options import EncodeOptions, ReindexOptions
from qasir.encoding.plain_loop import PlainLoop
from qasir.encoding.reindex import plan_reindex, reindex_corpus
from qasir.encoding.reports import Report, report_rows
from qasir.encoding.rows import TILE_SCHEMA
from qasir.encoding.run import run_encoding
from qasir.index.changes import MOST_ATTEMPTS
from qasir.index.index import Index, VideoState
from qasir.index.lease import Run
from qasir.index.maintenance import tidy
from qasir.video.corpus import current_fingerprint, list_videos
from tests.qasir.encoding import decoders
from tests.qasir.encoding.stubs import SPEC, PixelModel, encode_stubbed
from tests.qasir.encoding.test_encode import contents
from tests.videos import write_video

STALE = "status = 'encoded' AND error_kind IS NOT NULL"
BARE = replace(SPEC, cells=False)


def row(index, video_id):
    (found,) = index.table("videos").to_table(filter=f"video_id = '{video_id}'").to_pylist()
    return found


def spoil(path, text="no video any more"):
    path.write_text(text)
    return current_fingerprint(str(path))


def says(kind, message, only="a"):
    """A decoder that reports this failure of one video, and decodes the others."""

    def decode(segments, specs, **limits):
        for number, segment in enumerate(segments.to_pylist()):
            if segment["video_id"] == only:
                cut = {name: segment[name] for name in ("video_id", "uri", "size_bytes", "fingerprint", "segment")}
                report = Report(
                    **cut, n_segments=segment["n_segments"], status="failed", error_kind=kind, error=message
                )
                yield Decoded(TILE_SCHEMA.empty_table(), report_rows([report]))
            else:
                yield from decode_segments(segments.slice(number, 1), specs, **limits)

    return decode


def reindex(folder, index, *, decode=decode_segments, **options):
    def stages(indexes):
        models = [PixelModel()] * len(indexes)
        return PlainLoop(indexes, lambda: models, EncodeOptions(), isolate=False, decode=decode)

    corpus = list_videos(str(folder))
    (summary,) = reindex_corpus(corpus, [index], stages, ReindexOptions(**options), EncodeOptions())
    return summary


@pytest.fixture
def stale(videos, tmp_path):
    """(folder, index, the row of `a` as it was): `a` was encoded, then its file became no video, which a run found."""
    _, index = encode_stubbed(videos, tmp_path / "index")
    before = row(index, "a")
    spoil(videos / "a.mp4")
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.failed, summary.stale, summary.failures_by_kind) == (1, 1, {"not_a_video": 1})
    return videos, index, before


def test_a_changed_file_that_fails_keeps_its_rows_and_says_so(stale):
    folder, index, before = stale
    after = row(index, "a")
    assert after["failed_fingerprint"] == current_fingerprint(str(folder / "a.mp4")) != before["fingerprint"]
    assert (after["error_kind"], after["attempts"]) == ("not_a_video", 1)
    assert after["error"]
    marks = {"error_kind", "error", "failed_fingerprint", "attempts"}
    assert {name: value for name, value in after.items() if name not in marks} == {
        name: value for name, value in before.items() if name not in marks
    }
    assert len(index.snapshot().super_images([], video_ids=["a"])) == before["n_super_images"] == 2
    assert index.table("videos").count_rows(STALE) == index.n_stale() == 1


def test_a_stale_video_is_left_alone_until_its_file_changes_again(stale):
    folder, index, _ = stale
    versions = [index.table(name).version for name in ("videos", "super_images")]
    summary, _ = encode_stubbed(folder, index.uri)
    assert (summary.failed, summary.unchanged, summary.stale) == (0, 3, 1)
    assert [index.table(name).version for name in ("videos", "super_images")] == versions
    failed = spoil(folder / "a.mp4", "nor is this")
    assert encode_stubbed(folder, index.uri)[0].failed_again == 0
    assert (row(index, "a")["failed_fingerprint"], row(index, "a")["attempts"]) == (failed, 1)
    write_video(folder / "a.mp4", 55)
    summary, _ = encode_stubbed(folder, index.uri)
    assert (summary.encoded, summary.stale) == (1, 0)
    found = row(index, "a")
    assert [found[name] for name in ("error_kind", "error", "failed_fingerprint", "attempts")] == [None] * 4
    assert (found["fingerprint"], found["n_super_images"]) == (current_fingerprint(str(folder / "a.mp4")), 3)
    assert {r["fingerprint"] for r in index.snapshot().super_images([], video_ids=["a"]).to_pylist()} == {
        found["fingerprint"]
    }
    assert index.table("super_images").count_rows() == 3 + 2 + 1


@pytest.mark.parametrize("how", ["encode", "reindex"])
def test_a_file_that_is_put_back_is_stale_no_more_and_not_encoded_again(videos, tmp_path, how):
    _, index = encode_stubbed(videos, tmp_path / "index")
    before = row(index, "a")
    (videos / "a.mp4").rename(tmp_path / "kept")
    spoil(videos / "a.mp4")
    encode_stubbed(videos, tmp_path / "index")
    (tmp_path / "kept").rename(videos / "a.mp4")
    if how == "encode":
        summary, _ = encode_stubbed(videos, tmp_path / "index")
        assert (summary.encoded, summary.unchanged, summary.stale) == (0, 3, 0)
    else:
        assert plan_reindex(list_videos(str(videos)), index, ReindexOptions()).stale == 1
        summary = reindex(videos, index)
        assert (summary.changed, summary.unchanged, summary.stale) == (0, 3, 0)
    assert row(index, "a") == before


def test_a_stale_video_whose_file_is_gone_is_removed(stale):
    folder, index, _ = stale
    (folder / "a.mp4").unlink()
    assert encode_stubbed(folder, index.uri)[0].stale == 1
    summary = reindex(folder, index, max_removed=0.5)
    assert (summary.removed, summary.stale) == (1, 0)
    assert "a" not in index.states()
    assert index.table("super_images").count_rows() == 3


def test_reindexing_counts_stale_videos_and_keeps_their_rows_through_its_maintenance(stale):
    folder, index, before = stale
    spoil(folder / "a.mp4", "a third version")
    summary = reindex(folder, index)
    assert (summary.changed, summary.failed, summary.failed_again, summary.stale) == (1, 1, 0, 1)
    with Run(index, "tidies") as run:
        assert tidy(run.writer, {"a": "another"}) == 0
    assert len(index.snapshot().super_images([], video_ids=["a"])) == before["n_super_images"]


def fails_in_its_second_segment(segments, specs, **limits):
    """A decoder that gives the first super images of `a`, and then an error."""
    for number, segment in enumerate(segments.to_pylist()):
        bad = segment["video_id"] == "a" and segment["segment"] > 0
        decode = says("decode", "damage") if bad else decode_segments
        yield from decode(segments.slice(number, 1), specs, **limits)


@pytest.mark.parametrize("was_encoded", [True, False])
def test_a_failure_deletes_what_was_committed_of_its_version_and_nothing_else(videos, tmp_path, was_encoded):
    if was_encoded:
        encode_stubbed(videos, tmp_path / "index")
    write_video(videos / "a.mp4", 60)
    seen = set()

    def look(progress):
        rows = Index.open(str(tmp_path / "index")).table("super_images").to_table(columns=["video_id", "fingerprint"])
        seen.update((r["video_id"], r["fingerprint"]) for r in rows.to_pylist())

    summary, index = encode_stubbed(
        videos, tmp_path / "index", decode=fails_in_its_second_segment, batch=1, commit_every_s=0.0, segment_s=3,
        segment_bytes=0, on_progress=look,
    )  # fmt: skip
    assert ("a", current_fingerprint(str(videos / "a.mp4"))) in seen, "a part of it was committed"
    assert (summary.failed, summary.stale) == (1, int(was_encoded))
    assert index.states()["a"].status == ("encoded" if was_encoded else "failed")
    assert index.table("super_images").count_rows() == 3 + 2 * was_encoded
    assert len(index.snapshot().super_images([])) == 3 + 2 * was_encoded


@pytest.mark.parametrize(
    ("kind", "message"),
    [("io", "503"), ("timed_out", "slow"), ("crashed", "the process that decodes it dies of SIGKILL")],
)
@pytest.mark.parametrize("was_encoded", [True, False])
def test_a_failure_that_may_pass_is_tried_again_a_stated_number_of_times(videos, tmp_path, kind, message, was_encoded):
    if was_encoded:
        encode_stubbed(videos, tmp_path / "index")
        write_video(videos / "a.mp4", 45)
    failing = says(kind, message)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        summary, index = encode_stubbed(videos, tmp_path / "index", decode=failing)
        assert (summary.failed, summary.retried, summary.failed_again) == (1, int(attempt > 1), int(attempt > 1))
        assert not (attempt > 1 and too_many_failed(summary, 0.0)), "a retry does not count"
        found = row(index, "a")
        assert (found["attempts"], found["error_kind"]) == (attempt, kind)
        assert found["failed_fingerprint"] == current_fingerprint(str(videos / "a.mp4"))
    assert encode_stubbed(videos, tmp_path / "index", decode=failing)[0].failed == 0
    assert reindex(videos, index, decode=failing).retried == 0
    asked = reindex(videos, index, decode=failing, retry_failed=True)
    assert (asked.retried, asked.failed, asked.failed_again) == (1, 1, 1)
    assert row(index, "a")["attempts"] == MOST_ATTEMPTS + 1
    write_video(videos / "a.mp4", 35)
    encode_stubbed(videos, tmp_path / "index", decode=failing)
    assert row(index, "a")["attempts"] == 1, "another version"
    summary = reindex(videos, index)
    assert (summary.changed, summary.retried, summary.failed, summary.stale) == (0, 1, 0, 0)
    assert row(index, "a")["attempts"] is None


@pytest.mark.parametrize(("kind", "message"), [("decode", "io"), ("crashed", "dies of SIGSEGV"), ("not_finite", "x")])
def test_a_failure_of_the_file_itself_is_not_tried_again(videos, tmp_path, kind, message):
    encode_stubbed(videos, tmp_path / "index", decode=says(kind, message))
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.retried, summary.unchanged, row(index, "a")["attempts"]) == (0, 3, 1)
    assert reindex(videos, index).retried == 0
    assert reindex(videos, index, retry_failed=True).retried == 1


def test_a_process_that_the_system_kills_is_tried_again_by_the_next_run(videos, tmp_path):
    summary, index = encode_stubbed(videos, tmp_path / "index", decode=decoders.kill_on_b, isolate=True)
    assert summary.failures_by_kind == {"crashed": 1}
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.retried, summary.failed) == (1, 1, 0)
    assert index.states()["more/b"] == VideoState(current_fingerprint(str(videos / "more" / "b.mp4")), "encoded")


def test_states_of_an_index_from_before_there_were_stale_videos(videos, tmp_path):
    (videos / "bad.mp4").write_text("nothing")
    _, index = encode_stubbed(videos, tmp_path / "index")
    index.table("videos").drop_columns(["failed_fingerprint", "attempts"])
    states = index.states()
    assert (states["a"].status, states["a"].stale) == ("encoded", False)
    bad = states["bad"]
    assert (bad.error_kind, bad.attempts, bad.attempts_at(bad.fingerprint)) == ("not_a_video", None, 1)
    assert index.n_stale() == 0
    planned = plan_reindex(list_videos(str(videos)), index, ReindexOptions())
    assert (planned.unchanged, planned.retried) == (4, 0)


# A file that changes while it is read


def replacing(path, versions, *, after=0):
    """A decoder after whose segment number `after` of `path` that file is replaced by the next of these versions."""
    left = list(versions)

    def decode(segments, specs, **limits):
        for number, segment in enumerate(segments.to_pylist()):
            yield from decode_segments(segments.slice(number, 1), specs, **limits)
            if segment["uri"] == str(path) and segment["segment"] == after and left:
                new = left.pop(0)
                path.unlink() if new is None else os.replace(new, path)

    return decode


CUT = {"segment_s": 2, "segment_bytes": 0, "batch": 1, "commit_every_s": 0.0}


@pytest.mark.parametrize("was_encoded", [True, False])
def test_a_file_that_is_replaced_while_it_is_read_is_encoded_as_it_is_then(videos, tmp_path, was_encoded):
    if was_encoded:
        encode_stubbed(videos, tmp_path / "index")
    write_video(videos / "a.mp4", 60)
    new = write_video(tmp_path / "new.mp4", 85, rate=5)
    decode = replacing(videos / "a.mp4", [new])
    seen = []
    summary, index = encode_stubbed(videos, tmp_path / "index", decode=decode, on_progress=seen.append, **CUT)
    assert (summary.failed, summary.failures_by_kind, summary.stale) == (0, {}, 0)
    assert summary.encoded == (1 if was_encoded else 3)
    assert seen[-1].done == seen[-1].planned == summary.encoded
    assert row(index, "a")["fingerprint"] == current_fingerprint(str(videos / "a.mp4"))
    assert row(index, "a")["size_bytes"] == (videos / "a.mp4").stat().st_size
    assert contents(index) == contents(encode_stubbed(videos, tmp_path / "afresh")[1])
    assert encode_stubbed(videos, tmp_path / "index")[0].unchanged == 3


def test_a_file_of_one_segment_that_is_written_over_is_no_mixture(videos, tmp_path):
    """Written over in place, between two parts of one segment."""
    spec = replace(BARE, image_size=256, grid=1, fps=10.0)
    write_video(videos / "a.mp4", 60, options={"g": "10"})
    new = write_video(tmp_path / "new.mp4", 70, size=(32, 32)).read_bytes()
    left = [new]

    def decode(segments, specs, **limits):
        for part in decode_segments(segments, specs, **limits):
            if left and len(part.tiles) and not len(part.reports):
                (videos / "a.mp4").write_bytes(left.pop())
            yield part

    summary, index = encode_stubbed(videos, tmp_path / "index", spec=spec, decode=decode)
    assert not left
    assert (summary.encoded, summary.failed) == (3, 0)
    assert contents(index) == contents(encode_stubbed(videos, tmp_path / "afresh", spec=spec)[1])


@pytest.mark.parametrize("was_encoded", [True, False])
def test_a_file_that_changes_once_more_fails_and_is_tried_again_by_the_next_run(videos, tmp_path, was_encoded):
    if was_encoded:
        encode_stubbed(videos, tmp_path / "index")
    write_video(videos / "a.mp4", 60)
    versions = [write_video(tmp_path / f"{n}.mp4", n) for n in (61, 62)]
    failed = current_fingerprint(str(versions[0]))
    summary, index = encode_stubbed(videos, tmp_path / "index", decode=replacing(videos / "a.mp4", versions), **CUT)
    assert (summary.failures_by_kind, summary.stale) == ({"io": 1}, int(was_encoded))
    found = row(index, "a")
    assert found["error"].startswith("changed while read")
    assert (found["failed_fingerprint"], found["attempts"]) == (failed, 1)
    images = index.snapshot().super_images([])
    assert len(images) == index.table("super_images").count_rows() == 3 + 2 * was_encoded
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.failed, summary.stale) == (1, 0, 0)
    assert contents(index) == contents(encode_stubbed(videos, tmp_path / "afresh")[1])


def test_a_file_that_is_deleted_while_it_is_read_fails(videos, tmp_path):
    encode_stubbed(videos, tmp_path / "index")
    write_video(videos / "a.mp4", 60)
    summary, index = encode_stubbed(videos, tmp_path / "index", decode=replacing(videos / "a.mp4", [None]), **CUT)
    assert (summary.failures_by_kind, summary.stale) == ({"io": 1}, 1)
    assert row(index, "a")["error"] == "changed while read: it is gone"
    assert index.table("super_images").count_rows() == len(index.snapshot().super_images([])) == 5


def test_a_file_that_changed_between_listing_and_reading_is_not_read_under_its_old_name(videos, tmp_path):
    corpus = list_videos(str(videos))
    write_video(videos / "a.mp4", 55)
    indexes = [
        Index.open_or_new(str(tmp_path / name), spec, corpus.root, corpus.source)
        for name, spec in (("one", SPEC), ("two", replace(BARE, grid=1)))
    ]
    options = EncodeOptions()
    stages = PlainLoop(indexes, lambda: [PixelModel()] * 2, options, isolate=False)
    assert [(s.encoded, s.failed) for s in run_encoding(corpus, indexes, stages, options)] == [(3, 0), (3, 0)]
    for index in indexes:
        assert row(index, "a")["fingerprint"] == current_fingerprint(str(videos / "a.mp4"))
        assert contents(index) == contents(encode_stubbed(videos, index.uri + "-afresh", spec=index.spec)[1])


def test_a_file_that_is_put_back_while_its_new_version_is_read_keeps_its_rows(videos, tmp_path):
    _, index = encode_stubbed(videos, tmp_path / "index")
    before = contents(index)
    (videos / "a.mp4").rename(tmp_path / "kept.mp4")
    write_video(videos / "a.mp4", 60)
    decode = replacing(videos / "a.mp4", [tmp_path / "kept.mp4"])
    summary, index = encode_stubbed(videos, tmp_path / "index", decode=decode, **CUT)
    assert (summary.failed, summary.stale) == (0, 0)
    assert contents(index) == before


# Embeddings that are not finite


class Diverging(PixelModel):
    """Gives a wrong number for pictures in which nothing is darker than `above`: in one vector, or in a cell of it."""

    def __init__(self, value, *, cell=False, above=0):
        self.value, self.cell, self.above = value, cell, above

    def encode_images(self, pixels, *, grid=None):
        vectors, cells = super().encode_images(pixels, grid=grid)
        bad = pixels.reshape(len(pixels), -1).min(axis=1) >= self.above
        (cells if self.cell else vectors)[bad, ..., 1] = self.value
        return vectors, cells


@pytest.fixture
def bright(tmp_path):
    """A folder of three videos; of `b` the last super image but one has nothing dark in it."""
    folder = tmp_path / "bright"
    for name in "abc":
        levels = [40 if name != "b" or i < 40 or i >= 60 else 220 for i in range(80)]
        write_video(folder / f"{name}.mp4", 80, pictures=[np.full((48, 64, 3), level) for level in levels])
    return folder


@pytest.mark.parametrize(
    ("value", "cell"), [(np.nan, False), (np.inf, False), (-np.inf, True), (1e6, False), (np.nan, True)]
)
@pytest.mark.parametrize("batch", [1, 16])
def test_an_embedding_that_is_not_finite_fails_its_video_and_no_other(bright, tmp_path, value, cell, batch):
    summary, index = encode_stubbed(
        bright, tmp_path / "index", models=[Diverging(value, cell=cell, above=180)], batch=batch, commit_every_s=0.0
    )
    assert (summary.encoded, summary.failures_by_kind) == (2, {"not_finite": 1})
    assert row(index, "b")["error"] == "NaN or infinite embeddings of 1 super images, 2 first"
    assert row(index, "b")["embedding"] is None
    whole = encode_stubbed(bright, tmp_path / "whole")[1]
    for video_id in "ac":
        mine, theirs = (i.snapshot().super_images(video_ids=[video_id]).to_pylist() for i in (index, whole))
        assert mine == theirs
    assert {r["video_id"] for r in index.table("super_images").to_table().to_pylist()} == {"a", "c"}
    assert encode_stubbed(bright, tmp_path / "index")[0].unchanged == 3, "the same file and model give the same"


def test_a_video_whose_new_version_is_not_finite_is_stale(bright, tmp_path):
    dark = tmp_path / "dark"
    for name in "abc":
        write_video(dark / f"{name}.mp4", 40, picture=np.zeros((48, 64, 3), np.uint8))
    encode_stubbed(dark, tmp_path / "index")
    (bright / "b.mp4").replace(dark / "b.mp4")
    summary, index = encode_stubbed(dark, tmp_path / "index", models=[Diverging(np.nan, above=180)])
    assert (summary.failures_by_kind, summary.stale) == ({"not_finite": 1}, 1)
    assert len(index.snapshot().super_images([])) == index.table("super_images").count_rows() == 3 * 2


def test_an_encoder_that_gives_nothing_else_fails_every_video(videos, tmp_path):
    summary, index = encode_stubbed(videos, tmp_path / "index", models=[Diverging(np.nan)])
    assert (summary.encoded, summary.failures_by_kind) == (0, {"not_finite": 3})
    assert too_many_failed(summary, 1.0)
    assert index.table("super_images").count_rows() == 0


def test_only_the_index_whose_model_diverged_fails(bright, tmp_path):
    corpus, options = list_videos(str(bright)), EncodeOptions(commit_every_s=0.0)
    indexes = [Index.open_or_new(str(tmp_path / name), SPEC, corpus.root, corpus.source) for name in ("one", "two")]
    models = [PixelModel(), Diverging(np.nan, above=180)]
    stages = PlainLoop(indexes, lambda: models, options, batch=3, isolate=False)
    good, bad = run_encoding(corpus, indexes, stages, options)
    assert (good.encoded, good.failed) == (3, 0)
    assert (bad.encoded, bad.failures_by_kind) == (2, {"not_finite": 1})
    assert indexes[1].states()["b"].error_kind == "not_finite"
