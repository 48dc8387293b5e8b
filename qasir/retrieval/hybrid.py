"""Hybrid QASIR: an expensive model and a cheap one over the same videos (arXiv 2312.00414).

fusion    score = w * z(score_large) + (1 - w) * z(score_small), z standardising each query's scores over the videos
cascade   the small model ranks the corpus, the large one re-scores its first k videos only
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qasir.errors import NoIndexError, QueryError
from qasir.index.schemas import ENCODED
from qasir.retrieval.coarse_to_fine import ranked_below, recalled
from qasir.retrieval.scoring import Scoring, score
from qasir.retrieval.searcher import IndexSearcher, Searcher, open_index

log = logging.getLogger(__name__)

_NAMED = 5
HYBRIDS = ("fusion", "cascade")


@dataclass(frozen=True)
class Fusion:
    """weight: of the large model's standardised scores, 0 to 1."""

    weight: float = 0.5
    large: Scoring = field(default_factory=Scoring)
    small: Scoring = field(default_factory=Scoring)

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise QueryError(f"weight {self.weight:g}: choose a number from 0 (small model) to 1 (large model)")

    def weighted(self, large: NDArray[np.float32], small: NDArray[np.float32]) -> NDArray[np.float32]:
        """The fused scores (Q, V) of standardised ones."""
        return (self.weight * large + (1.0 - self.weight) * small).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        return {
            "aggregation": "fusion", "weight": self.weight,
            "large": self.large.describe(), "small": self.small.describe(),
        }  # fmt: skip


@dataclass(frozen=True)
class Cascade:
    """top_k: how many of the small model's first videos the large one scores."""

    top_k: int = 50
    large: Scoring = field(default_factory=Scoring)
    small: Scoring = field(default_factory=Scoring)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise QueryError(f"cascade top-k {self.top_k}: choose 1 or more")

    def describe(self) -> dict[str, Any]:
        return {
            "aggregation": "cascade", "top_k": self.top_k,
            "large": self.large.describe(), "small": self.small.describe(),
        }  # fmt: skip


class HybridSearcher(Searcher[Fusion | Cascade]):
    """Two indexes of one corpus. Moments come from the one with the finest spans.

    Raises QueryError when one index knows videos that the other does not, and says which are missing where. Videos that
    failed in one of them are left out.
    """

    default = Fusion()

    def __init__(self, large: IndexSearcher, small: IndexSearcher) -> None:
        self.large, self.small = large, small
        _check_same_corpus(large, small)
        both = sorted(set(large.video_ids) & set(small.video_ids))
        if not both:
            raise NoIndexError(f"no video is encoded in both {large.index.uri} and {small.index.uri}")
        left_out = len(set(large.video_ids) ^ set(small.video_ids))
        if left_out:
            log.warning("%d videos are left out: encoded in one index and failed in the other", left_out)
        self.video_ids = both
        self._in_large = np.array([large.videos.place[video_id] for video_id in both])
        self._in_small = np.array([small.videos.place[video_id] for video_id in both])
        self.durations_s = large.durations_s[self._in_large]

    @property
    def pointer(self) -> IndexSearcher:
        return min((self.large, self.small), key=lambda searcher: _seconds_a_unit(searcher))

    def score(
        self, texts: Sequence[str], method: Fusion | Cascade | None = None, *, among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """(n, V). A cascade's scores of videos that the large model did not see lie below those that it did."""
        method = method or self.default
        cheap = self.small.score(texts, method.small)[:, self._in_small]
        if isinstance(method, Fusion):
            costly = self.large.score(texts, method.large)[:, self._in_large]
            return (method.weight * standardised(costly) + (1.0 - method.weight) * standardised(cheap)).astype(
                np.float32
            )
        queries, features = self.large.encode(texts), self.large.images.features
        values = np.empty_like(cheap)
        for q, row in enumerate(cheap):
            videos = recalled(row, method.top_k, among)
            some = features.take(self._in_large[videos])
            seen = score(queries[q : q + 1], some, method.large, device=self.large.device)[0]
            values[q] = ranked_below(row, videos, seen)
        return values

    def sides(self, texts: Sequence[str], method: Fusion) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Standardised scores (n, V) of the large and of the small model."""
        costly = self.large.score(texts, method.large)[:, self._in_large]
        cheap = self.small.score(texts, method.small)[:, self._in_small]
        return standardised(costly), standardised(cheap)


def open_hybrid(large: str, small: str) -> HybridSearcher:
    """Open two indexes of one corpus for hybrid search: the expensive model's, then the cheap one's.

    Raises NoIndexError when one is missing, QueryError when they are over different corpora.
    """
    return HybridSearcher(open_index(large), open_index(small))


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row (a query's scores) to mean 0 and population standard deviation 1; a constant row becomes 0."""
    centred = values - values.mean(axis=1, keepdims=True)
    deviation = values.std(axis=1, keepdims=True)
    # Of a constant row, what rounding leaves is not a deviation.
    flat = deviation <= 1e-6 * np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-30)
    return np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation)).astype(np.float32)


def _check_same_corpus(large: IndexSearcher, small: IndexSearcher) -> None:
    known = {}
    for searcher in (large, small):
        rows = searcher.snapshot.videos(["video_id", "status"])
        known[searcher.index.uri] = dict(zip(rows["video_id"].to_pylist(), rows["status"].to_pylist(), strict=True))
    complaints = []
    for here, there in ((large.index.uri, small.index.uri), (small.index.uri, large.index.uri)):
        missing = sorted(v for v, status in known[there].items() if status == ENCODED and v not in known[here])
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            complaints.append(f"{here} lacks {', '.join(missing[:_NAMED])}{more}")
    if complaints:
        raise QueryError(f"the indexes are not over one corpus: {'; '.join(complaints)}")


def _seconds_a_unit(searcher: IndexSearcher) -> float:
    """How much time the finest unit of an index covers."""
    spec = searcher.index.spec
    return (1 if spec.cells else spec.frames_per_super_image) / spec.fps
