"""TREC files, against what another evaluator (ranx) makes of them."""

import os
from urllib.parse import unquote

import numpy as np
import pytest

from qasir.evaluation import trec
from qasir.evaluation.evaluate import VideoToText
from qasir.evaluation.metrics import RECALL_AT, right_ranks, summarise
from qasir.evaluation.query import Query
from qasir.evaluation.trec import Run, encoded
from qasir.retrieval.methods.maximum import Max

N_QUERIES, N_VIDEOS = 60, 150
VIDEO_IDS = [f"video {v} é%20#enc#{v}" for v in range(N_VIDEOS)]
MEASURES = ["mrr", *(f"hit_rate@{k}" for k in RECALL_AT)]


@pytest.fixture(scope="module")
def ranx():
    """Without compiling anything, which takes a minute and is for millions of lines."""
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    import ranx

    return ranx


def made_up(n_right, seed=0):
    """Scores of which no two of a query are equal, and which videos are right."""
    rng = np.random.default_rng(seed)
    values = rng.permuted(np.tile(np.arange(N_VIDEOS, dtype=np.float32), (N_QUERIES, 1)), axis=1) / 7 - 3
    right = [sorted(rng.choice(N_VIDEOS, n, replace=False).tolist()) for n in rng.integers(1, n_right + 1, N_QUERIES)]
    return values, right


def run_of(values, right, missed=()):
    return Run([f"q {i}" for i in range(len(values))], VIDEO_IDS, values, right, list(missed), "qasir-test")


def by_ranx(ranx, folder):
    qrels = ranx.Qrels.from_file(str(folder / "qrels.txt"), kind="trec")
    run = ranx.Run.from_file(str(folder / "run.txt"), kind="trec")
    return ranx.evaluate(qrels, run, MEASURES, make_comparable=True)


@pytest.mark.parametrize("n_right", [1, 4])
def test_ranx_gives_our_metrics_to_the_digit(ranx, tmp_path, n_right):
    values, right = made_up(n_right)
    run_of(values, right).write(tmp_path)
    theirs, ours = by_ranx(ranx, tmp_path), summarise(right_ranks(values, right))
    assert theirs["mrr"] == pytest.approx(ours["MRR"], abs=1e-12)
    for k in RECALL_AT:
        assert 100 * theirs[f"hit_rate@{k}"] == pytest.approx(ours[f"R@{k}"], abs=1e-9)


def test_missed_queries_count_there_too(ranx, tmp_path):
    values, right = made_up(1)
    run_of(values, right, [("lost", ("nowhere", "nor here"))]).write(tmp_path)
    theirs = by_ranx(ranx, tmp_path)
    for k in RECALL_AT:
        found = (right_ranks(values, right) <= k).sum()
        assert theirs[f"hit_rate@{k}"] == pytest.approx(found / (N_QUERIES + 1))


def test_of_equal_scores_right_ones_are_last_as_ranks_count_them(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 9, (N_QUERIES, N_VIDEOS)).astype(np.float32)
    _, right = made_up(3)
    run_of(values, right).write(tmp_path)
    first = {}
    for line in (tmp_path / "run.txt").read_text().splitlines():
        query, q0, video, rank, score, tag = line.split(" ")
        q, v = int(unquote(query).removeprefix("q ")), VIDEO_IDS.index(unquote(video))
        assert (q0, tag, np.float32(score)) == ("Q0", "qasir-test", values[q, v])
        if v in right[q]:
            first.setdefault(q, int(rank))
    found = [rank for _, rank in sorted(first.items())]
    assert found == right_ranks(values, right).tolist()


def test_a_run_ends_at_its_depth_and_lacks_what_has_no_score(tmp_path, monkeypatch):
    monkeypatch.setattr(trec, "DEPTH", 10)
    values, right = made_up(1)
    values[:, 3] = -np.inf
    run_of(values, right).write(tmp_path)
    lines = [line.split(" ") for line in (tmp_path / "run.txt").read_text().splitlines()]
    assert len(lines) == 10 * N_QUERIES
    assert encoded(VIDEO_IDS[3]) not in {line[2] for line in lines}
    best = sorted(range(N_VIDEOS), key=lambda v: -values[0, v])[:10]
    assert [unquote(line[2]) for line in lines[:10]] == [VIDEO_IDS[v] for v in best]


@pytest.mark.parametrize("name", ["a b\tc", "100%", "%20", "né\u2003\n", "v_1#enc#0", 'x/y:"z"', "caf\udce9"])
def test_ids_have_no_white_space_and_come_back(name):
    assert len(encoded(name).split()) == 1
    assert encoded(name).isascii()
    assert unquote(encoded(name), errors="surrogateescape") == name
    assert encoded("v_1#enc#0") == "v_1#enc#0"


def test_videos_ask_for_their_texts(tmp_path):
    queries = [Query("a", "x", "v"), Query("b", "x", "w", other_video_ids=("v",)), Query("c", "x", "w")]
    values = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]], np.float32)

    found = VideoToText(["v", "w"], queries, values, np.zeros(2, np.int64), {}, {}, Max(), 0)
    Run.of_videos(found).write(tmp_path)
    assert (tmp_path / "qrels.txt").read_text() == "v 0 a 1\nv 0 b 1\nw 0 b 1\nw 0 c 1\n"
    first, *_ = (tmp_path / "run.txt").read_text().splitlines()
    assert first == "v Q0 c 1 3 qasir-max"
