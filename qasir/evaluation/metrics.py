"""Retrieval metrics of the PRVR benchmarks (protocol of MS-SL, ACM MM 2022) with bootstrap intervals.

rank = 1 + number of non-relevant videos that score at least as high as the best relevant one: a tie counts against us,
so a constant scorer gets the worst rank. R@K is the percentage of queries with rank <= K, SumR = R@1 + R@5 + R@10 +
R@100, MedR the median rank, MeanR the mean rank, MRR the mean reciprocal rank.

Where several videos are right for a query, its rank is that of the best of them that is there, and the others never
count against it; so R@K is the share of queries with any right video among the first K (others call that the hit rate
or success at K), and MedR, MeanR and MRR are of the first right one. Intervals resample by the first right video. M/V
and moments are those of the first right video, which alone has them; a query whose first right video is not there has
none. The other way round a text is right for each of its videos.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError

RECALL_AT = (1, 5, 10, 100)
METRICS = (*(f"R@{k}" for k in RECALL_AT), "SumR", "MedR", "MeanR", "MRR")
DEFAULT_MV_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
N_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
"""Percentiles, of a 95 % interval."""


def ranks(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(Q,) ranks from scores (Q, V) and relevant (Q, V), at least one a query. Raises ValueError on a NaN score."""
    if np.isnan(scores).any():
        query, video = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"the score of query {query} and video {video} is NaN")
    if not relevant.any(axis=1).all():
        raise ValueError(f"query {int(np.argmin(relevant.any(axis=1)))} has no relevant video")
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((scores >= best) & ~relevant).sum(axis=1)


def right_ranks(scores: NDArray[np.floating], right: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """`ranks` where right[q] are the numbers of the videos that are right for query q."""
    relevant = np.zeros(scores.shape, dtype=bool)
    relevant[np.repeat(np.arange(len(right)), [len(some) for some in right]), list(itertools.chain(*right))] = True
    return ranks(scores, relevant)


def target_ranks(scores: NDArray[np.floating], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """`ranks` where each query has one relevant video, by its number (Q,)."""
    return ranks(scores, target[:, None] == np.arange(scores.shape[1])[None, :])


def summarise(rank: NDArray[np.int64]) -> dict[str, float]:
    """Every metric of `METRICS` from the ranks of at least one query."""
    recalls = {f"R@{k}": 100.0 * float(np.mean(rank <= k)) for k in RECALL_AT}
    return {
        **recalls,
        "SumR": sum(recalls.values()),
        "MedR": float(np.median(rank)),
        "MeanR": float(np.mean(rank)),
        "MRR": float(np.mean(1.0 / rank)),
    }


def bootstrap(
    rank: NDArray[np.int64], groups: Sequence[str], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of every metric, resampling videos (`groups`) with all their queries.

    Queries of one video are not independent; resampling them one by one would give intervals that are too narrow.
    """
    samples = bootstrap_samples(rank, groups, n_resamples=n_resamples, seed=seed)
    bounds = {name: np.percentile(values, _INTERVAL) for name, values in samples.items()}
    return {name: (float(pair[0]), float(pair[1])) for name, pair in bounds.items()}


def bootstrap_samples(
    rank: NDArray[np.int64], groups: Sequence[str], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """(n_resamples,) values of every metric. The same seed and groups draw the same videos, so two rankings pair up."""
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(group.max()) + 1
    order = np.argsort(rank, kind="stable")
    sorted_rank, sorted_group = rank[order], group[order]
    measures = np.stack([*(rank <= k for k in RECALL_AT), 1.0 / rank, rank, np.ones(len(rank))]).astype(np.float64)
    per_group = np.stack([np.bincount(group, weights=row, minlength=n_groups) for row in measures])
    generator = np.random.default_rng(seed)
    out = {name: np.empty(n_resamples) for name in METRICS}
    for i in range(n_resamples):
        counts = np.bincount(generator.integers(0, n_groups, n_groups), minlength=n_groups)
        *hits, reciprocal, ranked, total = per_group @ counts
        recalls = [100.0 * hit / total for hit in hits]
        for k, recall in zip(RECALL_AT, recalls, strict=True):
            out[f"R@{k}"][i] = recall
        out["SumR"][i] = sum(recalls)
        out["MRR"][i] = reciprocal / total
        out["MeanR"][i] = ranked / total
        out["MedR"][i] = _weighted_median(sorted_rank, counts[sorted_group])
    return out


def bootstrap_means(values: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """(m, 3): mean, low and high of the 95 % interval of each column of values (n, m), resampling videos as `bootstrap`
    does."""
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(group.max()) + 1
    columns = np.column_stack([values, np.ones(len(values))])
    per_group = np.stack([np.bincount(group, weights=column, minlength=n_groups) for column in columns.T])
    generator = np.random.default_rng(0)
    counts = [np.bincount(generator.integers(0, n_groups, n_groups), minlength=n_groups) for _ in range(N_RESAMPLES)]
    totals = per_group @ np.stack(counts, axis=1)
    low, high = np.percentile(totals[:-1] / totals[-1], _INTERVAL, axis=1)
    return np.stack([values.mean(axis=0), low, high], axis=1)


def paired_difference(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], groups: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """{metric: (difference, low, high)}: ours minus theirs with its 95 % interval, both on the same resampled
    videos."""
    mine, other = summarise(ours), summarise(theirs)
    a, b = bootstrap_samples(ours, groups), bootstrap_samples(theirs, groups)
    bounds = {name: np.percentile(a[name] - b[name], _INTERVAL) for name in METRICS}
    return {name: (mine[name] - other[name], float(bounds[name][0]), float(bounds[name][1])) for name in METRICS}


def _weighted_median(values: NDArray[np.int64], weights: NDArray[np.int64]) -> float:
    """The median of sorted `values`, each repeated `weights` times."""
    cumulative = np.cumsum(weights)
    total = int(cumulative[-1])
    low = values[np.searchsorted(cumulative, (total - 1) // 2, side="right")]
    high = values[np.searchsorted(cumulative, total // 2, side="right")]
    return (float(low) + float(high)) / 2.0


@dataclass(frozen=True)
class Bin:
    """Metrics of the queries whose M/V lies in (lo, hi]; None when there are none."""

    lo: float
    hi: float
    n_queries: int
    metrics: dict[str, float] | None


def by_moment_ratio(
    rank: NDArray[np.int64], ratio: NDArray[np.float64], edges: Sequence[float] = DEFAULT_MV_EDGES
) -> list[Bin]:
    """Metrics per moment-to-video ratio bin (lo, hi]; queries without a moment (NaN) are in none."""
    check_edges(edges)
    bins = []
    for lo, hi in itertools.pairwise(edges):
        inside = (ratio > lo) & (ratio <= hi)
        bins.append(Bin(lo, hi, int(inside.sum()), summarise(rank[inside]) if inside.any() else None))
    return bins


def check_edges(edges: Sequence[float]) -> None:
    if len(edges) < 2 or any(b <= a for a, b in itertools.pairwise(edges)):
        raise QueryError(f"M/V bin edges {list(edges)}: give two or more increasing numbers")
