"""Where vectors come from: the tables of an index, as they are stored; `qasir.retrieval.tuned` has them through a
checkpoint.

A stored vector that is not finite, as encoders of older versions could write it, is no evidence: it is left out where
vectors are read, here and in `qasir.retrieval.fragments`, and so has no part in any score, mean or moment. A video that
has no other, or no super images though it should, has one vector of NaN and scores minus infinity.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.errors import NoIndexError
from qasir.index.cell_times import TIMES, cell_times
from qasir.index.finite import is_finite
from qasir.index.ragged import numbered, ragged_rows, runs_of, starts
from qasir.index.snapshot import IS_ENCODED, Snapshot, matrix
from qasir.retrieval.granularity import check_granularity
from qasir.retrieval.vectors import Features, Kept, normalised

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class FeatureTable:
    """Readable super images or cells in memory. Videos are in order of their ids; the rows of one video lie together,
    in order of time, and videos of one length one after another, which scoring likes.

    features: their embeddings, rows renormalised after their float16 storage; start_s and end_s (n,) seconds, a row
    each.
    """

    video_ids: list[str]
    features: Features
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    @property
    def n_videos(self) -> int:
        return len(self.video_ids)

    @cached_property
    def place(self) -> dict[str, int]:
        """video_id -> its number."""
        return numbered(self.video_ids)

    def rows(self, video_id: str) -> slice:
        """The rows of one video."""
        first = int(self.features.first[self.place[video_id]])
        return slice(first, first + int(self.features.length[self.place[video_id]]))

    def take(self, video_ids: Sequence[str]) -> "FeatureTable":
        """Those videos only; ids that are not there are passed over."""
        ids = [video_id for video_id in sorted(set(video_ids)) if video_id in self.place]
        videos = np.array([self.place[video_id] for video_id in ids], dtype=np.int64)
        rows = ragged_rows(self.features.first[videos], self.features.length[videos])
        return FeatureTable(ids, self.features.take(videos), self.start_s[rows], self.end_s[rows])

    def covering(self, video_ids: Sequence[str]) -> "FeatureTable":
        """Exactly these videos, sorted ids; one that has no rows has one of NaN, at no time."""
        if self.video_ids == list(video_ids):
            return self
        there = self.take(video_ids)
        lacking = [video_id for video_id in video_ids if video_id not in self.place]
        ids = [*there.video_ids, *lacking]
        vectors = _with_nan(there.features.vectors, len(lacking))
        gates = None if there.features.gates is None else _with_nan(there.features.gates, len(lacking))
        nowhere = np.zeros(len(lacking))
        first = np.concatenate([there.features.first, len(there.features.vectors) + np.arange(len(lacking))])
        length = np.concatenate([there.features.length, np.ones(len(lacking), np.int64)])
        order = np.argsort(np.array(ids, dtype=object), kind="stable")
        return FeatureTable(
            list(video_ids),
            Features(first[order], length[order], vectors, gates),
            np.concatenate([there.start_s, nowhere]),
            np.concatenate([there.end_s, nowhere]),
        )


@dataclass(frozen=True)
class VideoList:
    """Encoded videos that have super images, in order of their ids: (V,) seconds and super images each."""

    video_ids: list[str]
    durations_s: NDArray[np.float64]
    n_super_images: NDArray[np.int64]

    @cached_property
    def place(self) -> dict[str, int]:
        """video_id -> its number."""
        return numbered(self.video_ids)

    def take(self, videos: NDArray[np.int64]) -> "VideoList":
        """Those videos only, by numbers that rise."""
        ids = [self.video_ids[v] for v in videos.tolist()]
        return VideoList(ids, self.durations_s[videos], self.n_super_images[videos])


class VectorSource(Protocol):
    """What searching needs of vectors: those of one snapshot, read when asked for."""

    snapshot: Snapshot
    is_stored: bool
    """Whether the vectors are as they lie in the tables."""

    def is_indexed(self) -> bool:
        """Whether there is a vector index over these vectors."""
        ...

    def videos(self) -> VideoList:
        """Every encoded video that has super images."""
        ...

    def video_vectors(self) -> NDArray[np.float32]:
        """(V, D) means of the videos' super images, L2-normalised."""
        ...

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        """Every readable super image, or every filled cell of one, or those of some videos. Raises QueryError for cells
        where the index has none."""
        ...


class StoredVectors:
    """The vectors of a snapshot as they are stored."""

    is_stored = True

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._told: set[str] = set()

    def is_indexed(self) -> bool:
        return self.snapshot.is_indexed()

    def videos(self) -> VideoList:
        rows = self._encoded("duration_s", "n_super_images")
        return VideoList(
            rows["video_id"].to_pylist(),
            rows["duration_s"].to_numpy(),
            rows["n_super_images"].to_numpy().astype(np.int64),
        )

    def video_vectors(self) -> NDArray[np.float32]:
        """A mean that is not there, or not finite, is made of the super images."""
        rows = self._encoded("embedding")
        stored = np.full((len(rows), self.snapshot.spec.embedding_dim), np.nan, np.float16)
        is_there = rows["embedding"].is_valid()
        stored[is_there.to_numpy()] = matrix(rows["embedding"].filter(is_there), self.snapshot.spec.embedding_dim)
        vectors = normalised(stored)
        if not (finite := is_finite(stored)).all():
            ids = rows["video_id"].filter(pa.array(~finite)).to_pylist()
            vectors[~finite] = self.load("super-image", ids).covering(ids).features.means
        return vectors

    def _encoded(self, *columns: str) -> pa.Table:
        condition = f"{IS_ENCODED} AND n_super_images > 0"
        return self.snapshot.videos(["video_id", *columns], condition).sort_by("video_id")

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        check_granularity(granularity, self.snapshot.spec.cells, self.snapshot.uri)
        return self._cells(video_ids) if granularity == "cell" else self._images(video_ids)

    def _images(self, video_ids: Sequence[str] | None) -> FeatureTable:
        spec = self.snapshot.spec
        columns = ["start_s", "end_s", "embedding", *(["gate_embedding"] if spec.gates else [])]
        rows = self.snapshot.super_images(columns, video_ids=video_ids)
        ids, first, length = runs_of(rows["video_id"])
        vectors = matrix(rows["embedding"], spec.embedding_dim)
        gates = matrix(rows["gate_embedding"], spec.embedding_dim) if spec.gates else None
        spans = _Spans(rows["start_s"].to_numpy(), rows["end_s"].to_numpy())
        return self._table("super images", ids, first, length, spans, vectors, gates)

    def _cells(self, video_ids: Sequence[str] | None) -> FeatureTable:
        spec = self.snapshot.spec
        n_cells = spec.frames_per_super_image
        rows = self.snapshot.super_images([*TIMES, "cell_embeddings"], video_ids=video_ids)
        filled = np.arange(n_cells) < rows["n_valid"].to_numpy()[:, None]
        stored = matrix(rows["cell_embeddings"], n_cells * spec.embedding_dim)
        stored = stored.reshape(-1, spec.embedding_dim)[filled.ravel()]
        ids, first, length = runs_of(rows["video_id"])
        if len(first):
            length = np.add.reduceat(filled.sum(axis=1), first)
            first = np.cumsum(length) - length
        return self._table("cells", ids, first, length, _Spans(*cell_times(rows, spec)), stored, None)

    def _table(
        self, what: str, ids: list[str], first: NDArray[np.int64], length: NDArray[np.int64], spans: "_Spans",
        vectors: NDArray[np.float16], gates: NDArray[np.float16] | None,
    ) -> FeatureTable:  # fmt: skip
        """Of rows that lie one video after another, those that can be used."""
        finite = is_finite(vectors) if gates is None else is_finite(vectors) & is_finite(gates)
        if not finite.all():
            self._tell(what, finite)
            kept = Kept.of(finite, first)
            first, length = starts(kept.length)
            spans, vectors = spans.take(kept.rows), kept.of_vectors(vectors)
            gates = None if gates is None else kept.of_vectors(gates)
        order, first = _by_length(first, length)
        spans = spans.take(order)
        features = Features(first, length, _ordered(vectors, order), None if gates is None else _ordered(gates, order))
        return FeatureTable(ids, features, spans.start_s, spans.end_s)

    def _tell(self, what: str, finite: NDArray[np.bool_]) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning(NOT_FINITE, self.snapshot.uri, int((~finite).sum()), len(finite), what)


NOT_FINITE = (
    "the index at %s: %d of %d %s that were read have numbers that are not finite, and are left out; "
    "jobs/reindex_corpus.py --repair encodes their videos again"
)
"""A warning: of which index, how many of how many of what."""


class HeldVectors:
    """Keeps what was read of a source: its videos, their vectors and, once every super image or every cell was asked
    for, those."""

    def __init__(self, source: VectorSource) -> None:
        self.snapshot = source.snapshot
        self.is_stored = source.is_stored
        self._source = source
        self._videos: VideoList | None = None
        self._vectors: NDArray[np.float32] | None = None
        self._images: FeatureTable | None = None
        self._cells: FeatureTable | None = None

    def is_indexed(self) -> bool:
        return self._source.is_indexed()

    def videos(self) -> VideoList:
        """Raises NoIndexError when there is no encoded video."""
        if self._videos is None:
            found = self._source.videos()
            if not found.video_ids:
                raise NoIndexError(f"the index at {self.snapshot.uri} has no encoded videos")
            self._videos = found
        return self._videos

    def video_vectors(self) -> NDArray[np.float32]:
        if self._vectors is None:
            self._vectors = self._source.video_vectors() if self.is_stored else self.load().features.means
        return self._vectors

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        if granularity != "super-image":
            return self._other(granularity, video_ids)
        if video_ids is not None:
            return self._source.load(granularity, video_ids) if self._images is None else self._images.take(video_ids)
        if self._images is None:
            self._images = self._source.load().covering(self.videos().video_ids)
        return self._images

    def _other(self, granularity: str, video_ids: Sequence[str] | None) -> FeatureTable:
        if self._cells is not None and granularity == "cell":
            return self._cells if video_ids is None else self._cells.take(video_ids)
        loaded = self._source.load(granularity, video_ids)
        if video_ids is None:  # checked by the source: cells, there being no third kind
            self._cells = loaded
        return loaded


class SomeVectors:
    """The vectors of some videos, whose super images were read already; other granularities are read when asked for."""

    is_stored = False

    def __init__(self, images: FeatureTable, source: VectorSource) -> None:
        self.snapshot = source.snapshot
        self._images = images
        self._source = source

    def is_indexed(self) -> bool:
        return False

    def videos(self) -> VideoList:
        """As long as their last super image says."""
        features = self._images.features
        return VideoList(
            self._images.video_ids, self._images.end_s[features.first + features.length - 1], features.length
        )

    def video_vectors(self) -> NDArray[np.float32]:
        return self._images.features.means

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        ids = self._images.video_ids if video_ids is None else video_ids
        return self._images.take(ids) if granularity == "super-image" else self._source.load(granularity, ids)


@dataclass(frozen=True)
class _Spans:
    """(n,) seconds, of a row each."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> "_Spans":
        return _Spans(self.start_s[rows], self.end_s[rows])


def _with_nan(vectors: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The vectors (m, D) and n more of NaN."""
    return np.concatenate([vectors, np.full((n, vectors.shape[1]), np.nan, np.float32)])


def _by_length(first: NDArray[np.int64], length: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows in their new order, first): videos sorted by length, each with its rows as they were."""
    videos = np.lexsort((first, length))
    sizes = length[videos]
    new_first = np.empty_like(first)
    new_first[videos] = np.cumsum(sizes) - sizes
    rows = np.repeat(first[videos] - new_first[videos], sizes) + np.arange(sizes.sum())
    return rows, new_first


def _ordered(stored: NDArray[np.float16], order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows in another order, renormalised, some at a time."""
    vectors = np.empty(stored.shape, np.float32)
    for low in range(0, len(order), _ROWS_AT_ONCE):
        some = slice(low, low + _ROWS_AT_ONCE)
        vectors[some] = normalised(stored[order[some]])
    return vectors
