import json
import os
import random
import signal
import time
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

import pipelines.encode
import pipelines.workers
from pipelines.encode import EncodeOptions, Target, _n_together, encode_corpus
from qasir.encoding.alarm import Alarm
from qasir.encoding.decode import decode_segments
from qasir.encoding.encode import Encoder
from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.errors import ERROR_KINDS, QasirError
from qasir.evaluation.evaluate import evaluate
from qasir.evaluation.query_files import Query
from qasir.index.index import Index
from qasir.retrieval.scoring import Scoring
from qasir.retrieval.searcher import IndexSearcher
from qasir.retrieval.vector_source import StoredVectors
from qasir.video.corpus import list_videos
from tests.videos import break_frame, write_audio, write_every_codec, write_film, write_video

pytestmark = pytest.mark.usefixtures("local_ray")
OPTIONS = EncoderOptions(grid=2, fps=2.0, image_size=96)


def encode(folder, uri, **options):
    corpus = list_videos(str(folder))
    index, source = prepare(OPTIONS, str(uri), corpus)
    summary = encode_corpus(corpus, [Target(index, source)], EncodeOptions(**options))[0]
    return summary, Index.open(str(uri))


def contents(index):
    rows = (
        index.snapshot()
        .super_images(["start_s", "end_s", "n_valid", "embedding", "cell_embeddings"])
        .drop_columns(["fingerprint"])
    )
    return rows.to_pydict()


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        if "embedding" in name:
            np.testing.assert_allclose(np.array(a[name], np.float32), np.array(b[name], np.float32), atol=2e-3)
        else:
            assert a[name] == b[name]


def test_every_video_is_encoded_and_measured(videos, tmp_path):
    summary, index = encode(videos, tmp_path / "index")
    assert (summary.encoded, summary.failed, summary.unchanged) == (3, 0, 0)
    rows = {row["video_id"]: row for row in index.table("videos").to_table().to_pylist()}
    assert {v: row["n_sampled"] for v, row in rows.items()} == {"a": 6, "more/b": 5, "more/c": 3}
    assert {v: row["n_super_images"] for v, row in rows.items()} == {"a": 2, "more/b": 2, "more/c": 1}
    assert summary.super_images == 5
    assert summary.video_seconds == pytest.approx(6.7)
    assert rows["a"]["codec"] == "h264"
    assert rows["a"]["fps"] == 10.0
    assert (rows["a"]["width"], rows["a"]["height"]) == (64, 48)
    images = StoredVectors(index.snapshot()).load()
    assert images.features.length.tolist() == [2, 2, 1]
    mine = images.features.of(0).mean(axis=0)
    np.testing.assert_allclose(rows["a"]["embedding"], mine, atol=2e-3)
    thumbnail = index.snapshot().super_images(["thumbnail"], video_ids=["a"])["thumbnail"][0].as_py()
    assert thumbnail[:2] == b"\xff\xd8"


def test_an_unchanged_corpus_is_left_alone_and_a_changed_file_is_encoded_again(videos, tmp_path):
    _, index = encode(videos, tmp_path / "index")
    versions = {name: index.table(name).version for name in ("videos", "super_images")}
    summary, index = encode(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (0, 3)
    assert {name: index.table(name).version for name in versions} == versions
    write_video(videos / "a.mp4", 55)
    write_video(videos / "new.mp4", 10)
    summary, index = encode(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (2, 2)
    assert [r["position"] for r in index.snapshot().super_images([], video_ids=["a"]).to_pylist()] == [0, 1, 2]
    assert index.table("super_images").count_rows() == 3 + 2 + 1 + 1


def test_a_removed_video_is_not_deleted(videos, tmp_path):
    encode(videos, tmp_path / "index")
    (videos / "a.mp4").unlink()
    summary, index = encode(videos, tmp_path / "index")
    assert summary.unchanged == 2
    assert "a" in index.states()


def test_bad_files_are_failed_rows_and_are_tried_again_only_when_they_change(videos, tmp_path):
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("no video here")
    summary, index = encode(videos, tmp_path / "index")
    assert (summary.encoded, summary.failed) == (3, 2)
    assert summary.failures_by_kind == {"not_a_video": 2}
    failed = index.table("videos").to_table(filter="status = 'failed'").to_pylist()
    assert {row["video_id"] for row in failed} == {"empty", "text"}
    assert all(row["error_kind"] == "not_a_video" and row["error"] and row["embedding"] is None for row in failed)
    asked = [Query("q", "a cat", "a"), Query("r", "a cat", "empty"), Query("s", "a cat", "nowhere")]
    assert evaluate(IndexSearcher(index), asked, Scoring()).skipped == {"not_in_index": 1, "failed_video": 1}
    summary, _ = encode(videos, tmp_path / "index")
    assert (summary.failed, summary.unchanged) == (0, 5)
    write_video(videos / "text.mp4", 10)
    summary, index = encode(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (1, 4)
    assert index.states()["text"].status == "encoded"


def test_damaged_videos_are_kept_in_part_when_asked(tmp_path):
    folder = tmp_path / "videos"
    break_frame(write_video(folder / "c.mp4", 50, options={"bf": "0"}), 30)
    summary, index = encode(folder, tmp_path / "strict")
    (row,) = index.table("videos").to_table().to_pylist()
    assert summary.failed == 1
    assert (row["error_kind"], row["error"]) == ("decode", "Invalid data found when processing input")
    summary, index = encode(folder, tmp_path / "partial", allow_partial=True)
    (row,) = index.table("videos").to_table().to_pylist()
    assert (summary.encoded, row["decode_errors"], row["n_sampled"]) == (1, 1, 10)


def test_every_codec_encodes_whatever_else_is_in_the_file(tmp_path):
    folder = tmp_path / "videos"
    write_every_codec(folder)
    write_film(folder / "film.mp4")
    summary, index = encode(folder, tmp_path / "index")
    assert (summary.encoded, summary.failed) == (7, 0)
    rows = index.table("videos").to_table().to_pylist()
    assert {row["video_id"]: row["codec"] for row in rows} == {
        "h264": "h264", "hevc": "hevc", "av1": "libdav1d", "vp9": "vp9", "mpeg4": "mpeg4", "mpeg2": "mpeg2video",
        "film": "h264",
    }  # fmt: skip
    assert {row["n_sampled"] for row in rows} == {6}


def test_a_run_that_stopped_halfway_goes_on_and_ends_the_same(videos, tmp_path, monkeypatch):
    """Stop after every receipt in turn, with what was received committed: as a kill right after a commit leaves it."""
    _, whole = encode(videos, tmp_path / "whole")
    real = pipelines.encode._receipts

    class Killed(Exception):
        pass

    def stop_after_one(*args, **options):
        for n, receipt in enumerate(real(*args, **options)):
            if n == 1:
                raise Killed
            yield receipt

    monkeypatch.setattr(pipelines.encode, "_receipts", stop_after_one)
    monkeypatch.setattr(pipelines.workers, "_CPU_BATCH", 1)
    for _ in range(20):
        try:
            encode(videos, tmp_path / "parts", commit_every_s=0.0)
            break
        except Killed:
            continue
    monkeypatch.undo()
    summary, parts = encode(videos, tmp_path / "parts")
    assert summary.encoded + summary.unchanged == 3
    same(contents(parts), contents(whole))
    assert parts.table("super_images").count_rows() == 5


def crash_on_b(segments, specs, **options):
    """A decoder whose process dies on one video."""
    if segments["video_id"][0].as_py() == "more/b":
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from decode_segments(segments, specs, **options)


@pytest.mark.parametrize("blocks", [3, 1])
def test_a_video_that_kills_its_decoder_is_recorded_and_the_others_are_encoded(videos, tmp_path, monkeypatch, blocks):
    monkeypatch.setattr(pipelines.encode, "decode_segments", crash_on_b)
    monkeypatch.setattr(pipelines.encode, "_MOST_BLOCKS", blocks)
    summary, index = encode(videos, tmp_path / "index")
    assert (summary.encoded, summary.failed) == (2, 1)
    assert summary.failures_by_kind == {"crashed": 1}
    assert index.states()["more/b"].status == "failed"


class BrokenEncoder(Encoder):
    def encode(self, tiles):
        raise RuntimeError("out of memory, say")


def test_an_encoder_that_fails_ends_the_job_and_blames_no_video(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines.encode, "Encoder", BrokenEncoder)
    with pytest.raises(QasirError, match="the encoder failed: RuntimeError: out of memory, say"):
        encode(videos, tmp_path / "index")
    index = Index.open(str(tmp_path / "index"))
    assert index.states() == {}
    monkeypatch.undo()
    assert encode(videos, tmp_path / "index")[0].encoded == 3


def hang_on_b(segments, specs, **options):
    """A decoder that never comes back from one video."""
    if segments["video_id"][0].as_py() == "more/b":
        with Alarm(options["time_limit_s"]):
            time.sleep(600)
    yield from decode_segments(segments, specs, **options)


def test_a_video_whose_decoding_hangs_is_given_up_on(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines.encode, "decode_segments", hang_on_b)
    summary, index = encode(videos, tmp_path / "index", decode_timeout_s=1.0)
    assert (summary.encoded, summary.failures_by_kind) == (2, {"timed_out": 1})
    (row,) = index.table("videos").to_table(filter="status = 'failed'").to_pylist()
    assert row["error"] == "decoding made no progress for 1.0 s"


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
    summary, index = encode(videos, tmp_path / "index")
    failed = index.table("videos").to_table(filter="status = 'failed'").to_pylist()
    assert {row["video_id"]: row["error_kind"] for row in failed} == {
        "sound": "no_video_stream", "jump": "timestamps", "huge": "too_large", "text": "not_a_video", "cut": "not_a_video",
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
    summary, index = encode(folder, tmp_path / "index", segment_s=2, segment_bytes=20_000)
    rows = index.table("videos").to_table().to_pylist()
    assert len(rows) == n + 1
    assert all(row["error_kind"] in ERROR_KINDS for row in rows if row["status"] == "failed")
    assert index.states()["good"].status == "encoded"
    assert summary.encoded + summary.failed == n + 1
    assert len(index.snapshot().super_images([])) == index.table("super_images").count_rows()


def test_the_run_says_where_the_time_went(videos, tmp_path):
    seen = []
    corpus = list_videos(str(videos))
    index, source = prepare(OPTIONS, str(tmp_path / "index"), corpus)
    (summary,) = encode_corpus(corpus, [Target(index, source)], on_progress=seen.append)
    assert (seen[-1].done, seen[-1].planned, seen[-1].super_images) == (3, 3, 5)
    facts = summary.throughput
    assert facts["bottleneck"] in facts["busy_s"]
    assert facts["busy_s"]["decode"] > 0
    assert facts["busy_s"]["encode"] > 0
    assert facts["workers"] == {"decode": 3, "encode": 1}  # no second encoder for five super images
    assert 0 < facts["startup_s"] < summary.seconds
    (run,) = index.table("runs").to_table().to_pylist()
    assert json.loads(run["seconds"])["bottleneck"] == facts["bottleneck"]
    assert json.loads(run["counts"])["failures_by_kind"] == {}


def test_clips_share_blocks_as_long_as_there_are_enough_to_go_round():
    def together(n, each_s, n_segments=1):
        segments = pa.table({"stated_s": [float(each_s * n_segments)] * n, "n_segments": [n_segments] * n})
        return _n_together(segments, n_decoders=3)

    assert [together(n, 20) for n in (1, 95, 96, 150, 10_000)] == [1, 1, 2, 3, 4]
    assert [together(1000, s) for s in (0, 2, 50, 3600)] == [20, 20, 1, 1]
    assert together(1000, 300, n_segments=36) == 1
    assert together(100_000, 3600) == 5
