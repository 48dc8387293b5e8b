"""Ranks moments over a corpus, any number a video.

**Candidates.** Units are super images, or cells (one sampled frame each), of one granularity throughout. With c_i the
cosine of unit i of a video and the query, and m the video's mean cosine, unit p is a peak where it is higher than the
unit before it, not lower than the one after it, and not below m. Each peak gives one window: the units around it
without a gap that reach

    m + share * (c_p - m)

so windows have whatever lengths the video has, as the best moment of a video (`qasir.retrieval.moments`) has. Ranking
every window of every length instead would come to ranking single units, since no mean is above its largest member.

**Score.** The mean of c_i over the window's units. Equal scores are ordered by video, then by where windows begin and
end.

**Non-maximum suppression.** From the best window down, one is dropped whose intersection over union in time with a
kept one of its video is above a limit: 0 for moments that do not overlap, none for every candidate.

**Cost.** A query takes one product with every unit of the videos that count (N units of D numbers), and O(N log U)
comparisons with U the units of the longest video; nothing is done a unit at a time. Units are kept in memory where all
of an index take at most 1 GiB, and read in parts of at most 128 MiB otherwise.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qasir.index.ragged import ragged_rows, starts
from qasir.retrieval.moments import MomentRule, overlaps
from qasir.retrieval.vector_source import FeatureTable, VectorSource
from qasir.retrieval.vectors import products

_NUMBERS_HELD = 1 << 28
"""Numbers of a granularity's vectors (float32) that are read as a whole, and kept by whoever keeps."""
_NUMBERS_AT_ONCE = 1 << 25
_SIMILARITIES_AT_ONCE = 1 << 24
_ROUNDING = 1e-9
"""An intersection over union that rounding leaves of two windows of which one begins where the other ends."""


@dataclass(frozen=True)
class RankedMoments:
    """Moments of one query, best first: (n,) numbers of their videos, scores, and seconds from start to end."""

    video: NDArray[np.int64]
    score: NDArray[np.float64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.video)

    @classmethod
    def none(cls) -> Self:
        return cls(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(3)))

    def take(self, rows: NDArray[np.int64]) -> "RankedMoments":
        return RankedMoments(self.video[rows], self.score[rows], self.start_s[rows], self.end_s[rows])

    def merged(self, others: "RankedMoments", top_k: int) -> "RankedMoments":
        """The best of both, which are of different videos."""
        both = RankedMoments(
            np.concatenate([self.video, others.video]),
            np.concatenate([self.score, others.score]),
            np.concatenate([self.start_s, others.start_s]),
            np.concatenate([self.end_s, others.end_s]),
        )
        # Of one video they are in order already, and a stable sort leaves them so.
        return both.take(np.lexsort((both.video, -both.score))[:top_k])


@dataclass(frozen=True)
class MomentChoice:
    """How many moments are kept of a query's candidates: top_k in all, per_video of one video (None: any number), and
    nms, the largest intersection over union that two of one video may have (None: any)."""

    top_k: int
    per_video: int | None = None
    nms: float | None = None

    def of(self, ranked: RankedMoments) -> RankedMoments:
        """The ones that are kept, of candidates in order."""
        if self.per_video is None and self.nms is None:
            return ranked.take(np.arange(min(self.top_k, len(ranked))))
        kept: list[int] = []
        of_video: dict[int, list[int]] = {}
        for i, video in enumerate(ranked.video.tolist()):
            mine = of_video.setdefault(video, [])
            if self.per_video is not None and len(mine) >= self.per_video:
                continue
            if self.nms is not None and mine:
                spans = np.stack([ranked.start_s[mine], ranked.end_s[mine]], axis=1)
                if (overlaps(spans, (ranked.start_s[i], ranked.end_s[i])) > self.nms + _ROUNDING).any():
                    continue
            mine.append(i)
            kept.append(i)
            if len(kept) == self.top_k:
                break
        return ranked.take(np.array(kept, dtype=np.int64))


def rank_moments(
    vectors: VectorSource,
    queries: NDArray[np.float32],
    video_ids: Sequence[str],
    choice: MomentChoice,
    *,
    granularity: str,
    rule: MomentRule,
) -> list[RankedMoments]:
    """For every query (Q, D), L2-normalised, its best moments in the videos of these ids, which are sorted; `video`
    counts among them. Videos of which no unit can be used have no moments."""
    found = [RankedMoments.none() for _ in queries]
    for loaded in _parts(vectors, granularity, video_ids):
        units = _Units.of(loaded, video_ids)
        if units is None:
            continue
        together = max(1, _SIMILARITIES_AT_ONCE // len(loaded.features.vectors))
        for start in range(0, len(queries), together):
            similarity = products(queries[start : start + together], loaded.features.vectors)
            for q, row in enumerate(similarity, start=start):
                found[q] = found[q].merged(choice.of(units.candidates(row, rule.share)), choice.top_k)
    return found


def _parts(vectors: VectorSource, granularity: str, video_ids: Sequence[str]) -> Iterator[FeatureTable]:
    """The units of the videos: of all videos where that is little and most of them count, else of so many at a
    time."""
    videos, spec = vectors.videos(), vectors.snapshot.spec
    a_super_image = spec.embedding_dim * (spec.frames_per_super_image if granularity == "cell" else 1)
    if a_super_image * videos.n_super_images.sum() <= _NUMBERS_HELD and 2 * len(video_ids) >= len(videos.video_ids):
        yield vectors.load(granularity)
        return
    numbers = a_super_image * videos.n_super_images[[videos.place[video_id] for video_id in video_ids]]
    part = (np.cumsum(numbers) - 1) // _NUMBERS_AT_ONCE
    for _, some in itertools.groupby(zip(part.tolist(), video_ids, strict=True), key=lambda pair: pair[0]):
        yield vectors.load(granularity, [video_id for _, video_id in some])


@dataclass(frozen=True)
class _Units:
    """The units of some videos, one video after another in order of their ids, n in all. rows (n,): where each is
    among those loaded; start_s, end_s (n,) seconds; video (n,) number of its video among those asked for; first and
    length (V,) of each video; place (n,): where each is when a gap lies before every video and behind the last."""

    rows: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    video: NDArray[np.int64]
    first: NDArray[np.int64]
    length: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, loaded: FeatureTable, video_ids: Sequence[str]) -> "_Units | None":
        """Those of the videos of these ids; None where there are none. A video of which nothing can be used has
        none."""
        unusable = set(loaded.features.unusable.tolist())
        asked = [
            (loaded.place[video_id], number)
            for number, video_id in enumerate(video_ids)
            if video_id in loaded.place and loaded.place[video_id] not in unusable
        ]
        if not asked:
            return None
        loaded_as, number = np.array(asked, dtype=np.int64).T
        first, length = starts(loaded.features.length[loaded_as])
        rows = ragged_rows(loaded.features.first[loaded_as], length)
        place = np.arange(len(rows)) + np.repeat(np.arange(1, len(length) + 1), length)
        video = np.repeat(number, length)
        return cls(rows, loaded.start_s[rows], loaded.end_s[rows], video, first, length, place)

    def candidates(self, similarity: NDArray[np.float32], share: float) -> RankedMoments:
        """Every window around a peak, once, best first, from the cosines (N,) of all units that are loaded."""
        cosine = similarity[self.rows].astype(np.float64)
        mean = np.add.reduceat(cosine, self.first) / self.length
        mean = np.repeat(np.minimum(mean, np.maximum.reduceat(cosine, self.first)), self.length)  # but for rounding
        gapped = np.full(len(cosine) + len(self.length) + 1, -np.inf)
        gapped[self.place] = cosine
        before, after = gapped[self.place - 1], gapped[self.place + 1]
        peaks = np.flatnonzero((cosine > before) & (cosine >= after) & (cosine >= mean))
        least = np.minimum(mean[peaks] + share * (cosine[peaks] - mean[peaks]), cosine[peaks])
        left, right = reach(gapped, self.place[peaks], least)
        # As one number each, which are compared much faster than pairs.
        first, last = np.divmod(np.unique((peaks - left) * len(cosine) + peaks + right), len(cosine))
        sums = np.concatenate([[0.0], np.cumsum(cosine)])
        score = ((sums[last + 1] - sums[first]) / (last + 1 - first)).astype(np.float32)
        order = np.lexsort((last, first, -score))
        first, last = first[order], last[order]
        return RankedMoments(self.video[first], score[order].astype(np.float64), self.start_s[first], self.end_s[last])


def reach(
    values: NDArray[np.float64], peaks: NDArray[np.int64], least: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(left, right): how many values on either side of each peak, without a gap, are at least its `least`. Minus
    infinity, which the values begin and end with, is never crossed.

    By doubling: minima of 2^k neighbours are made for as long as some window goes on for so many, then every window
    is put together from the largest to the smallest.
    """
    minima = [values]
    while True:
        width = 1 << (len(minima) - 1)
        low = minima[-1]
        right = low[np.minimum(peaks + 1, len(low) - 1)] >= least
        left = low[np.clip(peaks - width, 0, len(low) - 1)] >= least
        if not (left | right).any() or len(low) <= width:
            break
        minima.append(np.minimum(low[:-width], low[width:]))
    at_left, at_right = peaks.copy(), peaks.copy()
    for k in reversed(range(len(minima))):
        width, low = 1 << k, minima[k]
        goes = (at_right + 1 < len(low)) & (low[np.minimum(at_right + 1, len(low) - 1)] >= least)
        at_right += width * goes
        goes = (at_left - width >= 0) & (low[np.clip(at_left - width, 0, len(low) - 1)] >= least)
        at_left -= width * goes
    return peaks - at_left, at_right - peaks
