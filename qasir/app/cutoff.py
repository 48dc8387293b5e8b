"""From which score on a hit fits: the most that chance alone would give a query in this corpus.

**The rule.** Most of a corpus has nothing to do with a query. What that scores is noise, with some mean m and standard
deviation s, and the best of n noise scores grows with n. Its characteristic largest value, which one of n reaches on
average, is for normal noise

    cut-off = m + s z(n),  z(n) the normal quantile at 1 - 1/n

m and s come from the query's own scores of a fixed random sample of stored units, of which the lower half is taken,
where what fits is not: with its mean m' and standard deviation s', a half-normal's, s = s' / sqrt(1 - 2/pi) and
m = m' + s sqrt(2/pi). For videos the units are super images, each scored by the method as if it were a video; for
moments they are the units that moments are made of. n is how many of them the corpus has. Where scores are standardised
over the videos (several parts of a query, or fusion), the sample is the videos' own scores and n their number. A method
of two stages scores only what its first stage recalled, so that nothing can be said; nor can it where the cut-off would
be above 1, which no cosine is.

**Measured** on the demo (40 videos, `qasir-tiny`): for 325 queries of what is there, the best video is above the
cut-off for 89% (98% of those that are answered right), for 30 sentences from elsewhere and 40 texts without meaning it
is below for 87% and 95%; by moments 86% (92%), 83% and 90%. Of names of things that the model knows and that are not in
the videos, only 22% are below: other things look like them. With 10 to 40 videos the shares stay nearly as they are.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from qasir.retrieval.methods.method import Method
from qasir.retrieval.moments import finest
from qasir.retrieval.ranker import RankerOfFeatures
from qasir.retrieval.searcher import Side
from qasir.retrieval.vector_source import FeatureTable, VideoList
from qasir.retrieval.vectors import Features, products

_SAMPLE = 2048
"""Units whose scores are taken."""
_FEWEST = 30
"""Of fewer scores nothing is said."""
_HALF_MEAN, _HALF_DEVIATION = math.sqrt(2 / math.pi), math.sqrt(1 - 2 / math.pi)


@dataclass(frozen=True)
class Noise:
    """Scores that have nothing to do with a query: their mean and standard deviation, how many there are, and of what:
    "video", "super-image" or "cell"."""

    mean: float
    deviation: float
    n: int
    of: str

    @property
    def cutoff(self) -> float | None:
        """What the best of so many reaches by chance; None where no score can be that high: what is stored is so alike
        that scores do not tell it apart."""
        found = self.mean + self.deviation * NormalDist().inv_cdf(1 - 1 / self.n)
        return None if self.of in ("super-image", "cell") and found >= 1.0 else found


def noise_of(scores: NDArray[np.float32], of: str, n: int | None = None) -> Noise | None:
    """From scores (m,) of units of a kind, a sample of n (all, unless it is given); None where they are too few. Those
    that are not finite are left out."""
    usable = scores[np.isfinite(scores)].astype(np.float64)
    if len(usable) < _FEWEST:
        return None
    lower = np.partition(usable, len(usable) // 2)[: len(usable) // 2]
    deviation = float(lower.std()) / _HALF_DEVIATION
    return Noise(float(lower.mean()) + deviation * _HALF_MEAN, deviation, n or len(usable), of)


class Sample:
    """A fixed random sample of what an index stores, and how much there is of it."""

    def __init__(self, side: Side) -> None:
        videos, spec = side.vectors.videos(), side.index.spec
        chosen = _chosen(videos)
        self._others = side.ranker
        self._images = _thinned(side.vectors.load("super-image", chosen), _SAMPLE)
        self.n_images = int(videos.n_super_images.sum())
        self.granularity = finest(spec)
        self.n_units = self.n_images
        self._units = self._images.vectors
        if self.granularity == "cell":
            self._units = _thinned(side.vectors.load("cell", chosen), _SAMPLE).vectors
            self.n_units *= spec.frames_per_super_image

    def of_units(self, vectors: NDArray[np.float32]) -> list[Noise | None]:
        """For each query (Q, D), of the units that moments are made of."""
        return [noise_of(scores, self.granularity, self.n_units) for scores in products(vectors, self._units)]

    def of_images(self, vectors: NDArray[np.float32], method: Method) -> list[Noise | None]:
        """For each query (Q, D), of super images that a method of one index scores as if they were videos; None for
        methods of two stages."""
        if method.is_staged():
            return [None] * len(vectors)
        scores = method.score([vectors], [RankerOfFeatures(self._images, self._others)])
        return [noise_of(row, "super-image", self.n_images) for row in scores]


def _chosen(videos: VideoList) -> list[str]:
    """Ids of random videos, always the same ones, that have enough super images together."""
    order = np.random.default_rng(0).permutation(len(videos.video_ids))
    enough = np.searchsorted(np.cumsum(videos.n_super_images[order]), 4 * _SAMPLE) + 1
    return sorted(videos.video_ids[v] for v in order[:enough].tolist())


def _thinned(table: FeatureTable, most: int) -> Features:
    """At most so many of the rows that can be used, by chance but always the same ones; one a video."""
    rows = np.flatnonzero(np.isfinite(table.features.vectors[:, 0]))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(1).choice(rows, most, replace=False))
    gates = None if table.features.gates is None else table.features.gates[rows]
    single = Features.single(table.features.vectors[rows])
    return Features(single.first, single.length, single.vectors, gates)
