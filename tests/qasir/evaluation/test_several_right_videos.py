"""Queries that several videos are right for, against loops over the scores."""

import numpy as np
import pytest

from qasir.evaluation.evaluate import evaluate, evaluate_video_to_text
from qasir.evaluation.metrics import right_ranks
from qasir.evaluation.query import Query
from qasir.evaluation.report.page import render_report
from qasir.evaluation.tuning import sum_r
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.opening import open_index
from tests.indexes import give_texts, make_index, unit

DIM = 192  # of the model whose cost is counted


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    searcher = open_index(make_index(tmp_path_factory.mktemp("i") / "index", [2, 3, 4, 1, 2], dim=DIM).uri)
    give_texts(searcher, unit(np.random.default_rng(5).standard_normal((4, DIM))))
    return searcher


QUERIES = [
    Query("q0", "0", "v000", ((0.0, 4.0),), 8.0, ("v003", "v004")),
    Query("q1", "1", "gone", ((0.0, 4.0),), 8.0, ("v001", "v002")),
    Query("q2", "2", "v002", ((0.0, 4.0),), 16.0),
    Query("q3", "3", "gone", ((0.0, 4.0),), 8.0, ("gone too",)),
]


def test_the_rank_is_that_of_the_best_right_video_and_no_other_right_one_is_in_its_way(searcher):
    found = evaluate(searcher, QUERIES, Max())
    values = searcher.score(["0", "1", "2"], Max())
    ids = searcher.videos().video_ids
    for q, query in enumerate(QUERIES[:3]):
        right = [values[q, v] for v, video_id in enumerate(ids) if video_id in query.video_ids]
        wrong = [values[q, v] for v, video_id in enumerate(ids) if video_id not in query.video_ids]
        assert found.rank[q] == 1 + sum(score >= max(right) for score in wrong)
    assert found.skipped == {"not_in_index": 1, "failed_video": 0, "left_out": 0}
    assert found.groups == ["v000", "v001", "v002"]
    assert sum_r(searcher, QUERIES, Max()) == found.metrics["SumR"]
    missed = evaluate(searcher, QUERIES, Max(), missing="miss")
    assert missed.rank.tolist() == [*found.rank.tolist(), 101]
    assert "v003" in render_report(found, searcher, title="t")


def test_a_tie_with_a_wrong_video_counts_against_us_and_one_with_a_right_video_does_not():
    scores = np.array([[3.0, 3.0, 3.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    assert right_ranks(scores, [[0, 2], [0, 1, 2]]).tolist() == [2, 2]
    assert right_ranks(scores, [[0, 1, 2], [3]]).tolist() == [1, 4]


def test_moments_are_of_the_first_right_video_where_it_is_there(searcher):
    """The second query's is not, so two have a moment and an M/V."""
    found = evaluate(searcher, QUERIES, Max())
    assert found.corpus_moments.n_queries == sum(b.n_queries for b in found.by_mv) == 2
    assert found.corpus_moments.without_moment == 1


def test_a_text_is_right_for_each_of_its_videos(searcher):
    found = evaluate_video_to_text(searcher, QUERIES, Max())
    assert found.video_ids == ["v000", "v001", "v002", "v003", "v004"]
    values = searcher.score(["0", "1", "2"], Max())
    for v, video_id in enumerate(found.video_ids):
        own = np.array([video_id in query.video_ids for query in QUERIES[:3]])
        assert found.rank[v] == 1 + (values[~own, v] >= values[own, v].max()).sum()
