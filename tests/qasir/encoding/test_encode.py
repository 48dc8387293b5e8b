"""Encoding on the plain loop, in this process: what a run does to an index's tables."""

import json
import os
import random
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

import qasir
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.plain_loop import PlainLoop
from qasir.encoding.run import run_encoding
from qasir.errors import ERROR_KINDS, CorpusError, IndexHeldError, QasirError, SpecError
from qasir.index.index import Index
from qasir.index.lease import PROGRESS, Run
from qasir.index.schemas import FAILED
from qasir.index.snapshot import matrix
from qasir.video.corpus import list_videos
from tests.qasir.encoding.stubs import SPEC, BrokenModel, PixelModel, encode_stubbed
from tests.videos import break_frame, write_audio, write_every_codec, write_film, write_video

OPTIONS = EncoderOptions(grid=2, fps=2.0, image_size=96)


def contents(index):
    """The readable super images, and the rows of `videos`, without what differs between two runs."""
    images = index.snapshot().super_images().to_pylist()
    videos = index.table("videos").to_table().drop_columns(["encoded_at"]).sort_by("video_id").to_pylist()
    assert index.table("super_images").count_rows() == len(images), "rows that nobody can read"
    return images, videos


def failed_rows(index):
    return index.table("videos").to_table(filter=f"status = '{FAILED}'").to_pylist()


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """(summary, index) of three videos, encoded by the packaged model; not to be written to."""
    folder = tmp_path_factory.mktemp("packaged")
    write_video(folder / "videos" / "a.mp4", 30)
    write_video(folder / "videos" / "more" / "b.mp4", 25)
    write_video(folder / "videos" / "more" / "c.mkv", 12)
    uri = folder / "index"
    return qasir.encode(folder / "videos", uri, model=OPTIONS, isolate=False), Index.open(str(uri))


def test_every_video_is_encoded_and_measured(packaged):
    summary, index = packaged
    assert (summary.encoded, summary.failed, summary.unchanged) == (3, 0, 0)
    rows = {row["video_id"]: row for row in index.table("videos").to_table().to_pylist()}
    assert {v: row["n_sampled"] for v, row in rows.items()} == {"a": 6, "more/b": 5, "more/c": 3}
    assert {v: row["n_super_images"] for v, row in rows.items()} == {"a": 2, "more/b": 2, "more/c": 1}
    assert summary.super_images == 5
    assert summary.video_seconds == pytest.approx(6.7)
    assert rows["a"]["codec"] == "h264"
    assert rows["a"]["fps"] == 10.0
    assert (rows["a"]["width"], rows["a"]["height"]) == (64, 48)
    images = index.snapshot().super_images(["embedding", "cell_embeddings", "thumbnail"])
    assert images["video_id"].to_pylist() == ["a", "a", "more/b", "more/b", "more/c"]
    vectors = matrix(images["embedding"], 192).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=2e-3)
    np.testing.assert_allclose(rows["a"]["embedding"], vectors[:2].mean(axis=0), atol=2e-3)
    assert {len(cells) for cells in images["cell_embeddings"].to_pylist()} == {4 * 192}
    assert {thumbnail[:2] for thumbnail in images["thumbnail"].to_pylist()} == {b"\xff\xd8"}


def test_options_that_do_not_fit_the_index_are_errors_that_change_nothing(packaged):
    _, index = packaged
    before = index.table("runs").version
    with pytest.raises(SpecError, match="grid: 2 in the index, 3 asked for"):
        qasir.encode(index.corpus_source, index.uri, model=replace(OPTIONS, grid=3), isolate=False)
    assert index.table("runs").version == before


def test_a_list_of_paths_is_a_corpus_under_their_common_folder(videos, tmp_path):
    paths = [videos / "more" / "b.mp4", str(videos / "more" / "c.mkv"), videos / "more" / "gone.mp4"]
    model = EncoderOptions(grid=2, fps=2.0, cells=False, thumbnails=False)
    summary = qasir.encode(paths, tmp_path / "index", model=model, isolate=False)
    assert (summary.encoded, summary.failures_by_kind) == (2, {"io": 1})
    index = Index.open(str(tmp_path / "index"))
    assert sorted(index.states()) == ["b", "c", "gone"]
    assert index.corpus_root == index.corpus_source == str(videos / "more")
    with pytest.raises(CorpusError, match="the list of videos is empty"):
        qasir.encode([], tmp_path / "index", isolate=False)
    write_video(videos / "more" / "b.mkv", 10)
    with pytest.raises(CorpusError, match="two videos have the id 'b'"):
        qasir.encode([*paths, videos / "more" / "b.mkv"], tmp_path / "index", isolate=False)


def test_an_unchanged_corpus_is_left_alone_and_a_changed_file_is_encoded_again(videos, tmp_path):
    _, index = encode_stubbed(videos, tmp_path / "index")
    versions = {name: index.table(name).version for name in ("videos", "super_images")}
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (0, 3)
    assert {name: index.table(name).version for name in versions} == versions
    write_video(videos / "a.mp4", 55)
    write_video(videos / "new.mp4", 10)
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (2, 2)
    assert [r["position"] for r in index.snapshot().super_images([], video_ids=["a"]).to_pylist()] == [0, 1, 2]
    assert index.table("super_images").count_rows() == 3 + 2 + 1 + 1


def test_batches_under_way_together_fill_the_same_rows(videos, tmp_path):
    indexes = [encode_stubbed(videos, tmp_path / str(calls), calls=calls)[1] for calls in (1, 2)]
    order = [("video_id", "ascending"), ("position", "ascending")]
    one, two = (index.snapshot().super_images(["embedding"]).sort_by(order).to_pylist() for index in indexes)
    assert one == two != []


def test_a_removed_video_is_not_deleted(videos, tmp_path):
    encode_stubbed(videos, tmp_path / "index")
    (videos / "a.mp4").unlink()
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert summary.unchanged == 2
    assert "a" in index.states()


def test_bad_files_are_failed_rows_and_are_tried_again_only_when_they_change(videos, tmp_path):
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("no video here")
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.failed) == (3, 2)
    assert summary.failures_by_kind == {"not_a_video": 2}
    failed = failed_rows(index)
    assert {row["video_id"] for row in failed} == {"empty", "text"}
    assert all(row["error_kind"] == "not_a_video" and row["error"] and row["embedding"] is None for row in failed)
    summary, _ = encode_stubbed(videos, tmp_path / "index")
    assert (summary.failed, summary.unchanged) == (0, 5)
    write_video(videos / "text.mp4", 10)
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (1, 4)
    assert index.states()["text"].status == "encoded"


def test_damaged_videos_are_kept_in_part_when_asked(tmp_path):
    folder = tmp_path / "videos"
    break_frame(write_video(folder / "c.mp4", 50, options={"bf": "0"}), 30)
    summary, index = encode_stubbed(folder, tmp_path / "strict")
    (row,) = failed_rows(index)
    assert (summary.failed, row["error_kind"]) == (1, "decode")
    summary, index = encode_stubbed(folder, tmp_path / "partial", allow_partial=True)
    (row,) = index.table("videos").to_table().to_pylist()
    assert (summary.encoded, row["decode_errors"], row["n_sampled"]) == (1, 1, 10)


def test_every_codec_encodes_whatever_else_is_in_the_file(tmp_path):
    folder = tmp_path / "videos"
    write_every_codec(folder)
    write_film(folder / "film.mp4")
    summary, index = encode_stubbed(folder, tmp_path / "index")
    assert (summary.encoded, summary.failed) == (7, 0)
    rows = index.table("videos").to_table().to_pylist()
    assert {row["video_id"]: row["codec"] for row in rows} == {
        "h264": "h264", "hevc": "hevc", "av1": "libdav1d", "vp9": "vp9", "mpeg4": "mpeg4", "mpeg2": "mpeg2video",
        "film": "h264",
    }  # fmt: skip
    assert {row["n_sampled"] for row in rows} == {6}


class Stopped(Exception):
    pass


class StoppingLoop(PlainLoop):
    """Gives one receipt more than there were, and stops."""

    def run(self, plan):
        for n, receipt in enumerate(super().run(plan)):
            if n == 2:
                raise Stopped
            yield receipt


def test_a_run_that_stopped_halfway_goes_on_and_ends_the_same(videos, tmp_path):
    """Stopped after every other receipt, with what was received committed: as a kill right after a commit leaves it."""
    _, whole = encode_stubbed(videos, tmp_path / "whole", batch=1)
    corpus, options = list_videos(str(videos)), EncodeOptions(commit_every_s=0.0)
    parts = Index.open_or_new(str(tmp_path / "parts"), SPEC, corpus.root, corpus.source)
    stages = StoppingLoop([parts], lambda: [PixelModel()], options, batch=1, isolate=False)
    n_stopped = 0
    while True:
        try:
            run_encoding(corpus, [parts], stages, options)
            break
        except Stopped:
            n_stopped += 1
    assert 2 <= n_stopped <= 8
    assert contents(parts) == contents(whole)


def test_what_is_done_is_committed_while_the_rest_is_encoded(videos, tmp_path):
    seen = []

    def look(progress):
        index = Index.open(str(tmp_path / "index"))
        seen.append((progress.done, len(index.states()), index.table("super_images").count_rows()))

    encode_stubbed(videos, tmp_path / "index", batch=1, commit_every_s=0.0, on_progress=look)
    done, n_videos, n_images = zip(*seen, strict=True)
    assert 0 < n_images[0] < n_images[-1] == 5
    assert sorted(n_images) == list(n_images)
    assert any(0 < n < 3 for n in n_videos)
    assert done[-1] == 3


def test_a_model_that_fails_ends_the_run_and_blames_no_video(videos, tmp_path):
    with pytest.raises(QasirError, match="the encoder failed: RuntimeError: out of memory, say"):
        encode_stubbed(videos, tmp_path / "index", models=[BrokenModel()])
    assert Index.open(str(tmp_path / "index")).states() == {}
    assert encode_stubbed(videos, tmp_path / "index")[0].encoded == 3


def test_an_index_that_another_job_writes_is_left_alone(videos, tmp_path):
    _, index = encode_stubbed(videos, tmp_path / "index")
    with Run(index, "reindex_corpus"), pytest.raises(IndexHeldError, match="reindex_corpus"):
        encode_stubbed(videos, tmp_path / "index")


def test_several_indexes_from_one_decode_hold_what_each_alone_would(videos, tmp_path):
    specs = [SPEC, replace(SPEC, grid=3, fps=5.0, cells=False), replace(SPEC, thumbnails=True)]
    corpus, options = list_videos(str(videos)), EncodeOptions(segment_s=1, segment_bytes=0)
    together = [
        Index.open_or_new(str(tmp_path / f"t{i}"), spec, corpus.root, corpus.source) for i, spec in enumerate(specs)
    ]
    stages = PlainLoop(together, lambda: [PixelModel()] * 3, options, batch=4, isolate=False)
    assert [s.encoded for s in run_encoding(corpus, together, stages, options)] == [3, 3, 3]
    for i, spec in enumerate(specs):
        _, alone = encode_stubbed(videos, tmp_path / f"a{i}", spec=spec)
        assert contents(together[i]) == contents(alone)
    write_video(videos / "z.mp4", 10)
    corpus = list_videos(str(videos))
    assert encode_stubbed(videos, tmp_path / "t1", spec=specs[1])[0].encoded == 1
    assert [s.encoded for s in run_encoding(corpus, together, stages, options)] == [1, 0, 1]


def test_every_kind_of_bad_file_is_a_row_and_the_good_ones_are_encoded(videos, tmp_path):
    write_audio(videos / "sound.mp4")
    write_video(videos / "one_frame.mp4", 1)
    write_video(videos / "jump.mkv", 3, pts=[0, 1, 10_000_000], time_base=Fraction(1, 1000), codec="mpeg4")
    write_video(
        videos / "huge.mkv",
        1,
        size=(16384, 2304),
        codec="mjpeg",
        pix_fmt="yuvj420p",
        picture=np.zeros((2304, 16384, 3), np.uint8),
    )
    (videos / "text.mp4").write_text("no video")
    (videos / "secret.mp4").symlink_to(tmp_path / "nowhere.mp4")
    whole = (videos / "a.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    summary, index = encode_stubbed(videos, tmp_path / "index")
    failed = failed_rows(index)
    assert {row["video_id"]: row["error_kind"] for row in failed} == {
        "sound": "no_video_stream", "jump": "timestamps", "huge": "too_large", "text": "not_a_video",
        "cut": "not_a_video",
    }  # fmt: skip
    assert summary.encoded == 4
    assert sum(summary.failures_by_kind.values()) == summary.failed == 5
    for kind in summary.failures_by_kind:
        assert kind in ERROR_KINDS


def mutations(data, chance):
    """A damaged copy of a file: bytes flipped, an end cut off, a stretch zeroed, or two stretches spliced."""
    data = bytearray(data)
    how = chance.choice(["flip", "cut", "zero", "splice", "header"])
    if how == "flip":
        for _ in range(chance.choice([1, 10, 200])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del data[chance.randrange(len(data)) :]
    elif how == "zero":
        start = chance.randrange(len(data))
        stop = min(len(data), start + chance.choice([16, 500, 20_000]))
        data[start:stop] = bytes(stop - start)
    elif how == "splice":
        a, b = sorted(chance.sample(range(len(data)), 2))
        data = data[:a] + data[b:] + data[a:b]
    else:
        for _ in range(5):
            data[chance.randrange(min(len(data), 600))] = chance.randrange(256)
    return bytes(data)


def test_mutated_files_never_stop_a_job(tmp_path):
    """Fuzz: a few hundred damaged copies of videos; every one is a row, encoded or failed with a known kind."""
    chance = random.Random(7)
    folder = tmp_path / "videos"
    originals = [*write_every_codec(tmp_path / "whole", 60), write_film(tmp_path / "film.mp4", 60)]
    folder.mkdir()
    n = int(os.environ.get("QASIR_MUTATIONS", "200"))
    for i in range(n):
        path = originals[i % len(originals)]
        (folder / f"m{i:04}{path.suffix}").write_bytes(mutations(path.read_bytes(), chance))
    write_video(folder / "good.mp4", 30)
    summary, index = encode_stubbed(
        folder, tmp_path / "index", isolate=True, batch=16, segment_s=2, segment_bytes=20_000
    )
    rows = index.table("videos").to_table().to_pylist()
    assert len(rows) == n + 1
    assert all(row["error_kind"] in ERROR_KINDS for row in rows if row["status"] == "failed")
    assert index.states()["good"].status == "encoded"
    assert summary.encoded + summary.failed == n + 1
    assert len(index.snapshot().super_images([])) == index.table("super_images").count_rows()


def test_the_run_says_where_the_time_went(videos, tmp_path):
    write_video(videos / "a.mp4", 30, size=(1280, 720))  # more than the hundredths of a second that are told
    seen = []
    summary, index = encode_stubbed(videos, tmp_path / "index", on_progress=seen.append)
    assert (seen[-1].done, seen[-1].planned, seen[-1].super_images) == (3, 3, 5)
    facts = summary.throughput
    assert facts["bottleneck"] in facts["busy_s"]
    assert facts["busy_s"]["decode"] > 0
    assert facts["workers"] == {"decode": 1, "encode": 1}
    assert 0 < facts["startup_s"] < summary.seconds
    (run,) = index.table("runs").to_table().to_pylist()
    assert json.loads(run["seconds"])["bottleneck"] == facts["bottleneck"]
    assert json.loads(run["counts"])["failures_by_kind"] == {}


def test_the_heartbeat_says_how_far_the_run_is(videos, tmp_path, monkeypatch):
    monkeypatch.setattr("qasir.encoding.run.Run", partial(Run, heartbeat_s=0.05))
    told = []

    def look(progress):
        until = time.monotonic() + 10
        while time.monotonic() < until:
            (run,) = Index.open(str(tmp_path / "index")).runs()
            found = json.loads(run["counts"] or "{}").get(PROGRESS, {})
            if found.get("super_images") == progress.super_images and found["done"] == progress.done:
                break
            time.sleep(0.05)
        told.append((found["done"], found["planned"], found["super_images"]))

    encode_stubbed(videos, tmp_path / "index", on_progress=look)
    assert told[-1] == (3, 3, 5)


@pytest.mark.parametrize("wrong", [{"decode_timeout_s": -1}, {"commit_every_s": float("nan")}, {"segment_s": 0}])
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SpecError, match="from [01] up"):
        EncodeOptions(**wrong)
