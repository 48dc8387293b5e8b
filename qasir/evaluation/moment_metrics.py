"""How well moments are found: R@K at an IoU, over (video, moment) pairs.

A query counts as found within K when one of its first K hits is the right video with a moment whose intersection over
union with a true moment reaches the threshold. Two ways of counting:

- `moment_recalls`: videos are ranked, and each has its best moment, so K counts videos;
- `corpus_moments`: moments of all videos are ranked (`qasir.retrieval.moment_ranking`), any number of one video, so K
  counts moments. That is video corpus moment retrieval, by the protocol of TVR (Lei et al., ECCV 2020): 100 moments a
  query, without non-maximum suppression unless asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.evaluation.metrics import RECALL_AT, bootstrap_means
from qasir.evaluation.query import Query
from qasir.index.spec import EncoderSpec
from qasir.retrieval.moment_ranking import MomentChoice, RankedMoments
from qasir.retrieval.moments import overlap, overlaps
from qasir.retrieval.searcher import Searcher

AT = (1, 5)
IOUS = (0.3, 0.5, 0.7)
NAMES = tuple(f"R@{k} IoU {iou:g}" for k in AT for iou in IOUS)
CORPUS_IOUS = (0.5, 0.7)
CORPUS_NAMES = tuple(f"R@{k} IoU {iou:g}" for iou in CORPUS_IOUS for k in RECALL_AT)
MOMENTS_RANKED = max(RECALL_AT)
"""How many moments of a query's ranking are looked at."""

Recalls = dict[str, dict[str, tuple[float, float, float]]]
"""{granularity: {name: (percentage, low, high)}}, with the 95 % interval."""


def moment_recalls(searcher: Searcher, queries: Sequence[Query], order: NDArray[np.int64]) -> Recalls:
    """Recalls by every granularity stored, over the queries that have moments.

    order (Q, >= 5 or V): each query's videos, best first. Empty when no query has a moment.
    """
    asked = [q for q, query in enumerate(queries) if query.moments]
    if not asked:
        return {}
    texts = [queries[q].text for q in asked]
    # Only the right video can count, so only its moment is looked up.
    within = {}
    for i, q in enumerate(asked):
        first = [searcher.videos().video_ids[v] for v in order[q, : max(AT)].tolist()]
        if queries[q].video_id in first:
            within[i] = first.index(queries[q].video_id)
    wanted = [(i, queries[asked[i]].video_id) for i in within]
    groups = [queries[q].video_id for q in asked]
    found = {}
    for granularity in _granularities(searcher.side.index.spec):
        spans = searcher.moments(texts, wanted, granularity)
        right = np.zeros((len(asked), len(NAMES)))
        for (i, place), span in zip(within.items(), spans.tolist(), strict=True):
            best = max(overlap((span[0], span[1]), true) for true in queries[asked[i]].moments)
            right[i] = [100.0 * (place < k and best >= iou) for k in AT for iou in IOUS]
        found[granularity] = _with_intervals(NAMES, right, groups)
    return found


@dataclass(frozen=True)
class CorpusMoments:
    """How well moments are found among those of all videos. n_queries: those with a moment, which count;
    without_moment: how many others were left out; nms: the largest IoU of two ranked moments of one video, if that was
    bounded; recalls: of the names CORPUS_NAMES."""

    n_queries: int
    without_moment: int
    nms: float | None
    recalls: Recalls


def corpus_moments(
    searcher: Searcher, queries: Sequence[Query], missed: Sequence[Query] = (), *, nms: float | None = None
) -> CorpusMoments:
    """Rank the moments of all videos for every query that has one, by every granularity stored.

    queries: whose videos are there; missed: others, which count as not found. Which way of ranking videos was asked
    for has no part in it. Raises QueryError for an nms that is no IoU.
    """
    check_nms(nms)
    asked = [query for query in queries if query.moments]
    lost = [query for query in missed if query.moments]
    n_others = len(queries) + len(missed) - len(asked) - len(lost)
    if not asked:
        return CorpusMoments(len(lost), n_others, nms, {})
    place = searcher.videos().place
    texts, groups = [query.text for query in asked], [query.video_id for query in (*asked, *lost)]
    choice = MomentChoice(MOMENTS_RANKED, nms=nms)
    recalls = {}
    for granularity in _granularities(searcher.side.index.spec):
        right = np.zeros((len(groups), len(CORPUS_NAMES)))
        ranked = searcher.rank_moments(texts, choice, granularity)
        for i, (query, moments) in enumerate(zip(asked, ranked, strict=True)):
            best = best_overlap(moments, place[query.video_id], query.moments)
            first = [_first(best >= iou) for iou in CORPUS_IOUS]
            right[i] = [100.0 * (rank <= k) for rank in first for k in RECALL_AT]
        recalls[granularity] = _with_intervals(CORPUS_NAMES, right, groups)
    return CorpusMoments(len(groups), n_others, nms, recalls)


def check_nms(nms: float | None) -> None:
    """Raises QueryError for a number that is no intersection over union."""
    if nms is not None and not 0.0 <= nms <= 1.0:
        raise QueryError(f"nms {nms:g}: choose an intersection over union from 0 (no overlap) to 1 (any)")


def best_overlap(ranked: RankedMoments, video: int, true: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """(n,) the largest IoU of each ranked moment with a true one of its video; 0 for moments of other videos."""
    spans = np.stack([ranked.start_s, ranked.end_s], axis=1)
    return np.max([overlaps(spans, moment) for moment in true], axis=0) * (ranked.video == video)


def _first(right: NDArray[np.bool_]) -> float:
    """The rank of the first right one; infinite where there is none."""
    return 1.0 + int(right.argmax()) if right.any() else np.inf


def _granularities(spec: EncoderSpec) -> tuple[str, ...]:
    return ("super-image", "cell") if spec.cells and spec.grid > 1 else ("super-image",)


def _with_intervals(
    names: Sequence[str], right: NDArray[np.float64], groups: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """{name: (mean, low, high)} of the columns of right (Q, names), in %."""
    table = bootstrap_means(right, groups).tolist()
    return {name: (row[0], row[1], row[2]) for name, row in zip(names, table, strict=True)}
