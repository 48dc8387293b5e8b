"""Where vectors come from: the tables of an index as they are stored, or through a fine-tuned checkpoint (`qasir.retrieval.tuned`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.index.ragged import numbered, runs_of
from qasir.index.snapshot import IS_ENCODED, Snapshot, matrix
from qasir.retrieval.vectors import Features, normalised

_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class FeatureTable:
    """Readable super images or cells in memory. Videos are in order of their ids; the rows of one video lie together, in order
    of time, and videos of one length one after another, which scoring likes.

    features: their embeddings, rows renormalised after their float16 storage; start_s and end_s (n,) seconds, a row each.
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


@dataclass(frozen=True)
class VideoTable:
    """Encoded videos in order of their ids. vectors (V, D) float32: L2-normalised means of their super images."""

    video_ids: list[str]
    vectors: NDArray[np.float32]
    durations_s: NDArray[np.float64]
    n_super_images: NDArray[np.int64]

    @cached_property
    def place(self) -> dict[str, int]:
        """video_id -> its number."""
        return numbered(self.video_ids)


class VectorSource(Protocol):
    """What searching needs of vectors: those of one snapshot, loaded when asked for."""

    snapshot: Snapshot

    @property
    def is_indexed(self) -> bool:
        """Whether the vector index is over these vectors."""
        ...

    def videos(self) -> VideoTable:
        """Every encoded video that has super images, with its vector."""
        ...

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        """Every readable super image, or every filled cell of one, or those of some videos. Raises QueryError for cells where
        the index has none."""
        ...


class StoredVectors:
    """The vectors of a snapshot as they are stored."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    @property
    def is_indexed(self) -> bool:
        """Whether the vector index is over these vectors."""
        return self.snapshot.is_indexed

    def videos(self) -> VideoTable:
        """Every encoded video that has super images, with its vector."""
        rows = self.snapshot.videos(
            ["video_id", "embedding", "duration_s", "n_super_images"], f"{IS_ENCODED} AND n_super_images > 0"
        )
        rows = rows.sort_by("video_id")
        return VideoTable(
            rows["video_id"].to_pylist(),
            normalised(matrix(rows["embedding"], self.snapshot.spec.embedding_dim)),
            rows["duration_s"].to_numpy(),
            rows["n_super_images"].to_numpy().astype(np.int64),
        )

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        """Every readable super image, or every filled cell of one, or those of some videos. Raises QueryError for cells where
        the index has none."""
        check_granularity(granularity, self.snapshot)
        is_cell = granularity == "cell"
        has_gates = self.snapshot.spec.gates and not is_cell
        columns = ["start_s", "end_s", *(["n_valid", "cell_embeddings"] if is_cell else ["embedding"])]
        columns += ["gate_embedding"] if has_gates else []
        rows = self.snapshot.super_images(columns, video_ids=video_ids)
        start, end = rows["start_s"].to_numpy(), rows["end_s"].to_numpy()
        ids, first, length = runs_of(rows["video_id"])
        if is_cell:
            n_cells = self.snapshot.spec.frames_per_super_image
            filled = np.arange(n_cells) < rows["n_valid"].to_numpy()[:, None]
            stored = matrix(rows["cell_embeddings"], n_cells * self.snapshot.spec.embedding_dim)
            stored = stored.reshape(-1, self.snapshot.spec.embedding_dim)[filled.ravel()]
            start = (start[:, None] + np.arange(n_cells) / self.snapshot.spec.fps)[filled]
            end = np.minimum(start + 1.0 / self.snapshot.spec.fps, np.repeat(end, filled.sum(axis=1)))
            if len(first):
                length = np.add.reduceat(filled.sum(axis=1), first)
                first = np.cumsum(length) - length
        else:
            stored = matrix(rows["embedding"], self.snapshot.spec.embedding_dim)
        order, first = _by_length(first, length)
        gates = matrix(rows["gate_embedding"], self.snapshot.spec.embedding_dim) if has_gates else None
        features = Features(first, length, _ordered(stored, order), None if gates is None else _ordered(gates, order))
        return FeatureTable(ids, features, start[order], end[order])


GRANULARITIES = ("super-image", "cell")


def check_granularity(granularity: str, snapshot: Snapshot) -> None:
    if granularity not in GRANULARITIES:
        raise QueryError(f"granularity {granularity!r}: choose one of {', '.join(GRANULARITIES)}")
    if granularity == "cell" and not snapshot.spec.cells:
        raise QueryError(f"the index at {snapshot.uri} was made with --no-cells: it has no cell embeddings")


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
