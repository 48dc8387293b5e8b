"""The stored cells or super images of a video, and how well each fits a query: the time line and the frames of hits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.retrieval.vector_source import VectorSource

_MOST_FRAMES = 9
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Units:
    """(U,) seconds of the units of one video, in order, their vectors (U, D) and the cosines of those to a query."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    vectors: NDArray[np.float32]
    cosine: NDArray[np.float32]

    @classmethod
    def none(cls) -> "Units":
        return cls(np.zeros(0), np.zeros(0), np.zeros((0, 0), np.float32), np.zeros(0, np.float32))

    def within(self, start_s: float, end_s: float) -> "Units":
        """Those that lie in a moment."""
        rows = (self.start_s >= start_s - _ROUNDING_S) & (self.end_s <= end_s + _ROUNDING_S)
        return self.take(np.flatnonzero(rows))

    def take(self, rows: NDArray[np.int64]) -> "Units":
        return Units(self.start_s[rows], self.end_s[rows], self.vectors[rows], self.cosine[rows])

    def at_s(self, granularity: str) -> NDArray[np.float64]:
        """(U,) seconds of the frame that stands for each: the sampled one of a cell, the middle of a super image."""
        return self.start_s if granularity == "cell" else (self.start_s + self.end_s) / 2

    def typical_s(self, granularity: str) -> float:
        """That of the one that stands for all (there is one): of the half that fits best, the one most like their mean.
        What fits best of all may be a cut to something else."""
        best = np.argsort(-self.cosine, kind="stable")[: (len(self) + 1) // 2]
        likeness = self.vectors[best] @ self.vectors[best].mean(axis=0)
        return float(self.at_s(granularity)[best[likeness.argmax()]])

    def shown(self, most: int = _MOST_FRAMES) -> "Units":
        """At most so many, evenly spaced, the one that fits best among them."""
        n = len(self.cosine)
        if n <= most:
            return self
        rows = ((np.arange(most) + 0.5) * n / most).astype(np.int64)
        best = int(self.cosine.argmax())
        rows[int(best * most / n)] = best
        return self.take(rows)

    def __len__(self) -> int:
        return len(self.cosine)


def units_of(
    vectors: VectorSource, granularity: str, video_ids: Sequence[str], query: NDArray[np.float32]
) -> Iterator[tuple[str, Units]]:
    """(video_id, units) of each of these videos once, for a query (D,); one of which nothing can be used has none."""
    ids = sorted(set(video_ids))
    loaded = vectors.load(granularity, ids)
    unusable = set(loaded.features.unusable.tolist())
    for video_id in loaded.video_ids:
        rows = slice(0, 0) if loaded.place[video_id] in unusable else loaded.rows(video_id)
        own = loaded.features.vectors[rows]
        yield video_id, Units(loaded.start_s[rows], loaded.end_s[rows], own, own @ query)
