"""Kills a whole job for good in the middle of its work, and expects the tables of an uninterrupted run."""

import numpy as np
import pytest

from jobs import encode_corpus
from qasir.encoding.encode import encode
from qasir.encoding.options import EncoderOptions
from qasir.index.index import Index
from tests.jobs.killing import kill_once
from tests.jobs.test_jobs import call
from tests.videos import write_video

MODEL = EncoderOptions(grid=1, fps=5.0, image_size=96, thumbnails=False)
SETTINGS = ("--grid", "1", "--fps", "5", "--image-size", "96", "--no-thumbnails", "--commit-every", "0.5s", "--json")
N_VIDEOS = 4


def contents(uri):
    index = Index.open(str(uri))
    table = index.snapshot().super_images(["start_s", "end_s", "n_valid", "embedding"])
    assert len(table) == index.table("super_images").count_rows(), "orphan rows"
    rows = table.to_pylist()
    keys = [(r["video_id"], r["fingerprint"], r["position"], r["start_s"], r["end_s"], r["n_valid"]) for r in rows]
    assert len(set(keys)) == len(keys), "duplicates"
    videos = index.table("videos").to_table().drop_columns(["encoded_at", "embedding"]).to_pylist()
    return keys, np.array([r["embedding"] for r in rows], np.float32), sorted(videos, key=lambda row: row["video_id"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_in_the_middle_and_started_again_it_ends_with_the_same_tables(local_ray, tmp_path):
    videos, killed, whole = (tmp_path / name for name in ("videos", "killed", "whole"))
    for i in range(N_VIDEOS):
        write_video(videos / f"v{i}.mp4", 200 + 30 * i)
    write_video(videos / "long.mp4", 800)
    (videos / "bad.mp4").write_bytes(b"nothing")
    uninterrupted = encode(videos, whole, model=MODEL, isolate=False)
    assert (uninterrupted.encoded, uninterrupted.failed) == (N_VIDEOS + 1, 1)

    def n_kept():
        index = Index.find(str(killed))
        return index.table("super_images").count_rows() if index else 0

    kill_once("jobs.encode_corpus", ("--videos", videos, "--index", killed, *SETTINGS), lambda: n_kept() > 0)
    assert 0 < n_kept() < uninterrupted.super_images
    status, _, again, error = call(encode_corpus, "--videos", videos, "--index", killed, *SETTINGS)
    assert status == 0, error
    assert again["encoded"] > 0

    (keys, embeddings, rows), (other_keys, other_embeddings, other_rows) = contents(whole), contents(killed)
    assert keys == other_keys
    assert rows == other_rows
    np.testing.assert_allclose(embeddings, other_embeddings, atol=2e-3)
