import math

import numpy as np
import pytest

from qasir.errors import QueryError
from qasir.evaluation.metrics import bootstrap, by_moment_ratio, paired_difference, ranks, summarise


def one_hot(targets, n):
    return np.array(targets)[:, None] == np.arange(n)


def test_rank_counts_the_non_relevant_videos_that_score_at_least_as_high():
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.5, 0.5], [0.3, 0.3, 0.3]])
    assert ranks(scores, one_hot([0, 2, 1], 3)).tolist() == [1, 2, 3]


def test_a_constant_scorer_gets_the_worst_rank():
    assert ranks(np.zeros((4, 7)), one_hot([0, 3, 6, 2], 7)).tolist() == [7] * 4


def test_the_best_of_several_relevant_videos_counts_and_the_others_do_not():
    relevant = np.array([[True, False, True, False]])
    assert ranks(np.array([[0.9, 0.8, 0.5, 0.95]]), relevant).tolist() == [2]


def test_a_nan_score_is_an_error():
    with pytest.raises(ValueError, match="query 1 and video 0"):
        ranks(np.array([[1.0, 2.0], [math.nan, 0.0]]), one_hot([0, 0], 2))


def test_summary_of_known_ranks():
    summary = summarise(np.array([1, 1, 4, 10, 11, 200]))
    assert summary["R@1"] == pytest.approx(100 * 2 / 6)
    assert summary["R@5"] == pytest.approx(100 * 3 / 6)
    assert summary["R@10"] == pytest.approx(100 * 4 / 6)
    assert summary["R@100"] == pytest.approx(100 * 5 / 6)
    assert summary["SumR"] == pytest.approx(100 * 14 / 6)
    assert summary["MedR"] == 7.0
    assert summary["MRR"] == pytest.approx((1 + 1 + 1 / 4 + 1 / 10 + 1 / 11 + 1 / 200) / 6)


def test_bootstrap_resamples_videos_with_their_queries():
    """Equals the slow way on the same draws."""
    rng = np.random.default_rng(3)
    groups = [f"v{i // 3}" for i in range(60)]
    rank = rng.integers(1, 30, 60)
    bounds = bootstrap(rank, groups, n_resamples=200, seed=7)
    draws = np.random.default_rng(7)
    values = []
    names = sorted(set(groups))
    for _ in range(200):
        picked = [names[i] for i in draws.integers(0, len(names), len(names))]
        values.append(summarise(np.concatenate([rank[[g == p for g in groups]] for p in picked])))
    for name in ("R@1", "SumR", "MedR", "MeanR", "MRR"):
        assert bounds[name] == pytest.approx(tuple(np.percentile([v[name] for v in values], [2.5, 97.5])))


def test_interval_is_wider_when_queries_of_a_video_agree():
    rank = np.repeat(np.random.default_rng(0).choice([1, 50], 40), 10)
    by_video = bootstrap(rank, [str(i // 10) for i in range(400)])
    by_query = bootstrap(rank, [str(i) for i in range(400)])
    assert by_video["R@1"][1] - by_video["R@1"][0] > 2 * (by_query["R@1"][1] - by_query["R@1"][0])


def test_paired_difference_of_equal_rankings_is_zero():
    rank = np.random.default_rng(0).integers(1, 9, 50)
    assert paired_difference(rank, rank, [str(i % 10) for i in range(50)])["SumR"] == (0.0, 0.0, 0.0)


def test_moment_ratio_bins_are_open_below_and_closed_above():
    ratio = np.array([0.2, 0.2000001, 0.0, 1.0, math.nan])
    bins = by_moment_ratio(np.array([1, 2, 3, 4, 5]), ratio, (0.0, 0.2, 1.0))
    assert [(b.lo, b.hi, b.n_queries) for b in bins] == [(0.0, 0.2, 1), (0.2, 1.0, 2)]
    assert bins[0].metrics["R@1"] == 100.0
    with pytest.raises(QueryError, match="increasing"):
        by_moment_ratio(np.array([1]), np.array([0.5]), (0.5, 0.5))
