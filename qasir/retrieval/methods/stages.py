"""The second stage of a ranking in two: what the first recalled is scored anew, and ranks above all else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.retrieval.ranker import Ranker, RankerOfFeatures, RankerOfSome
from qasir.retrieval.vectors import Features

_BELOW = 4.0
"""Subtracted from the first stage's score of a video that was not recalled, so that it ranks below all that were."""
_QUERIES_TOGETHER = 64
"""Queries whose recalled videos are read together."""


@dataclass(frozen=True)
class Second:
    """One query, by its number, and the videos recalled for it, with their vectors."""

    query: int
    videos: NDArray[np.int64]
    places: NDArray[np.int64]
    read: Mapping[str, Features]

    def of(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, D) this query's embedding."""
        return queries[self.query : self.query + 1]

    def features(self, granularity: str) -> Features:
        """The vectors of the recalled videos."""
        return self.read[granularity].take(self.places)

    def ranker(self, ranker: Ranker) -> Ranker:
        """The ranker, of the recalled videos only."""
        return RankerOfFeatures(self.features("super-image"), RankerOfSome(ranker, self.videos))


def second_stage(
    coarse: NDArray[np.float32],
    chosen: Sequence[NDArray[np.int64]],
    ranker: Ranker,
    granularities: Iterable[str],
    fine: Callable[[Second], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """(Q, V) scores that rank each query's chosen videos by fine, (1, n) scores of one query, above the others in the
    order of coarse (Q, V). Only chosen videos' vectors are read, those of some queries together."""
    values = np.empty_like(coarse)
    for start in range(0, len(chosen), _QUERIES_TOGETHER):
        some = range(start, min(start + _QUERIES_TOGETHER, len(chosen)))
        videos = np.unique(np.concatenate([chosen[q] for q in some]))
        if not len(videos):
            values[some] = coarse[some]
            continue
        read = {name: ranker.features(name, videos) for name in granularities}
        for q in some:
            second = Second(q, chosen[q], np.searchsorted(videos, chosen[q]), read)
            values[q] = _ranked_below(coarse[q], chosen[q], fine(second)[0]) if len(chosen[q]) else coarse[q]
    return values


def recalled(coarse: NDArray[np.float32], k: int, among: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """(at most k,) videos with the highest coarse scores (V,) among those that count, in order of their numbers; none
    that scores minus infinity."""
    some = np.flatnonzero(np.isfinite(coarse) if among is None else among & np.isfinite(coarse))
    return some if k >= len(some) else some[np.sort(np.argpartition(coarse[some], -k)[-k:])]


def _ranked_below(
    coarse: NDArray[np.float32], videos: NDArray[np.int64], fine: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(V,) scores that rank the re-scored videos by `fine` and the others, in coarse order, below them; those that have
    minus infinity in either last."""
    known = fine[np.isfinite(fine)]
    values = coarse - _BELOW - (max(0.0, float(coarse.max()) - float(known.min())) if len(known) else 0.0)
    values[videos] = fine
    return values.astype(np.float32)
