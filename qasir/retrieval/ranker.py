"""Rankers: what a way of ranking asks of one index. In memory, or of some of its videos; `pipelines.score` has one on
Ray."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from qasir.retrieval.vectors import Features

if TYPE_CHECKING:
    from qasir.retrieval.methods.pooled import Pooled
    from qasir.retrieval.vector_source import VectorSource, VideoList


class Ranker(Protocol):
    """Scores queries against the V videos of an index, and hands out the vectors of those that a second stage looks
    at."""

    def videos(self) -> "VideoList":
        """The V videos, in order of their ids."""
        ...

    def pooled(self, queries: NDArray[np.float32], methods: Sequence["Pooled"]) -> list[NDArray[np.float32]]:
        """For every method, (Q, V) exact scores of queries (Q, D)."""
        ...

    def video_vectors(self) -> NDArray[np.float32]:
        """(V, D) mean vectors, L2-normalised."""
        ...

    def features(self, granularity: str, videos: NDArray[np.int64]) -> Features:
        """The vectors of some videos by their numbers, which rise, in that order. Nothing else need be read."""
        ...

    def counting(self) -> "Ranker":
        """One of the same size in this process, whose operations can be counted."""
        ...


class ExactRanker:
    """Scores every vector of a source in this process, on a GPU if there is one.

    When second stages have asked for single videos so often that reading all would have been less, all are read.
    """

    def __init__(self, vectors: "VectorSource") -> None:
        self.vectors = vectors
        self._n_read = 0

    def videos(self) -> "VideoList":
        return self.vectors.videos()

    def pooled(self, queries: NDArray[np.float32], methods: Sequence["Pooled"]) -> list[NDArray[np.float32]]:
        return scored(queries, self.vectors.load("super-image").features, methods)

    def video_vectors(self) -> NDArray[np.float32]:
        return self.vectors.video_vectors()

    def features(self, granularity: str, videos: NDArray[np.int64]) -> Features:
        self._n_read += len(videos)
        if granularity == "super-image" and self._n_read > 2 * len(self.videos().video_ids):
            self.vectors.load(granularity)
        return features_of(self.vectors, granularity, videos)

    def counting(self) -> Ranker:
        return ExactRanker(self.vectors)  # what counting reads is not held against this one


class RankerOfSome:
    """A ranker that knows only some of another's videos, (V,) numbers that rise."""

    def __init__(self, ranker: Ranker, numbers: NDArray[np.int64]) -> None:
        self.ranker = ranker
        self.numbers = numbers
        self._videos: VideoList | None = None

    def videos(self) -> "VideoList":
        if self._videos is None:  # evaluating asks for it once a hit
            self._videos = self.ranker.videos().take(self.numbers)
        return self._videos

    def pooled(self, queries: NDArray[np.float32], methods: Sequence["Pooled"]) -> list[NDArray[np.float32]]:
        return [values[:, self.numbers] for values in self.ranker.pooled(queries, methods)]

    def video_vectors(self) -> NDArray[np.float32]:
        return self.ranker.video_vectors()[self.numbers]

    def features(self, granularity: str, videos: NDArray[np.int64]) -> Features:
        return self.ranker.features(granularity, self.numbers[videos])

    def counting(self) -> Ranker:
        return RankerOfSome(self.ranker.counting(), self.numbers)


class RankerOfFeatures:
    """A ranker whose super images are at hand; what else it is asked for comes from `others`, over the same videos."""

    def __init__(self, images: Features, others: Ranker) -> None:
        self.images = images
        self.others = others

    def videos(self) -> "VideoList":
        return self.others.videos()

    def pooled(self, queries: NDArray[np.float32], methods: Sequence["Pooled"]) -> list[NDArray[np.float32]]:
        return scored(queries, self.images, methods)

    def video_vectors(self) -> NDArray[np.float32]:
        return self.others.video_vectors()

    def features(self, granularity: str, videos: NDArray[np.int64]) -> Features:
        return self.images.take(videos) if granularity == "super-image" else self.others.features(granularity, videos)

    def counting(self) -> Ranker:
        return self


def scored(queries: NDArray[np.float32], features: Features, methods: Sequence["Pooled"]) -> list[NDArray[np.float32]]:
    """For every method, (Q, V) exact scores of queries (Q, D), on a GPU if there is one."""
    from qasir.retrieval.scoring import best_device, score_each  # a command line names methods and waits for no torch

    return score_each(queries, features, methods, device=best_device())


def features_of(vectors: "VectorSource", granularity: str, videos: NDArray[np.int64]) -> Features:
    """The vectors of some videos of a source, by rising numbers."""
    ids = vectors.videos().video_ids
    wanted = [ids[v] for v in videos.tolist()]
    return vectors.load(granularity, wanted).covering(wanted).features
