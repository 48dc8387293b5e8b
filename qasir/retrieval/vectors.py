"""Vectors of videos in memory, any number a video: super images, cells, or whole videos; what scoring works on.

Torch is imported where something is computed, so that whoever only names a way of ranking does not wait for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qasir.index.ragged import ragged_rows, starts

if TYPE_CHECKING:
    from torch import Tensor

_LENGTHS_TOGETHER = 1.25
"""How much longer the longest video of a block may be than its shortest: what padding may cost at most."""


@dataclass(frozen=True)
class Block:
    """Videos of like length. videos (V,) numbers; rows (V, M), padded by repeating a row; padding (V, M) true there, or
    None.

    rows is a slice when the rows lie one after another, so that nothing is copied.
    """

    videos: NDArray[np.int64]
    length: int
    rows: slice | NDArray[np.int64]
    padding: NDArray[np.bool_] | None

    def of(self, vectors: "Tensor") -> "Tensor":
        """(V, M, D), a view where that is possible."""
        import torch

        picked = vectors[self.rows] if isinstance(self.rows, slice) else vectors[torch.from_numpy(self.rows)]
        return picked.view(len(self.videos), self.length, -1)


@dataclass(frozen=True)
class Features:
    """Video v owns rows first[v] to first[v] + length[v] of vectors (n, D) float32, L2-normalised; every length is at
    least 1. A video of which nothing can be used has one row, of NaN, and scores minus infinity.

    gates (n, D): what a text-gated interaction weighs by, where that is not the vectors themselves (EERCF gates by
    frames before their temporal encoder). Scoring is fastest where videos of one length lie one after another; any
    layout gives the same.
    """

    first: NDArray[np.int64]
    length: NDArray[np.int64]
    vectors: NDArray[np.float32]
    gates: NDArray[np.float32] | None = None

    @classmethod
    def single(cls, vectors: NDArray[np.float32]) -> "Features":
        """One vector a video."""
        return cls(np.arange(len(vectors)), np.ones(len(vectors), np.int64), vectors)

    @property
    def n_videos(self) -> int:
        return len(self.first)

    @cached_property
    def unusable(self) -> NDArray[np.int64]:
        """Numbers of the videos of which nothing can be used."""
        return np.flatnonzero(np.isnan(self.vectors[self.first, 0])) if self.vectors.shape[1] else self.first[:0]

    def of(self, video: int) -> NDArray[np.float32]:
        """(M, D) of one video."""
        return self.vectors[self.first[video] : self.first[video] + self.length[video]]

    def take(self, videos: NDArray[np.int64]) -> "Features":
        """Those videos only, in the order given; only their vectors are read."""
        length = self.length[videos]
        return self._picked(length, ragged_rows(self.first[videos], length))

    def thinned(self, every: int) -> "Features":
        """ceil(M / every) evenly spaced rows of each video's M."""
        chosen, length = evenly_spaced(self.length, every)
        return self._picked(length, np.repeat(self.first, length) + chosen)

    def _picked(self, length: NDArray[np.int64], rows: NDArray[np.int64]) -> "Features":
        gates = None if self.gates is None else self.gates[rows]
        return Features(*starts(length), self.vectors[rows], gates)

    @cached_property
    def means(self) -> NDArray[np.float32]:
        """(V, D) mean of each video's vectors, L2-normalised."""
        import torch

        means = np.empty((self.n_videos, self.vectors.shape[1]), np.float32)
        vectors = torch.from_numpy(self.vectors)
        for block in self.blocks(1 << 16):
            images = block.of(vectors)
            kept = images if block.padding is None else images * torch.from_numpy(~block.padding)[:, :, None]
            means[block.videos] = torch.nn.functional.normalize(kept.sum(dim=1), dim=-1).numpy()
        return means

    def blocks(self, most_rows: int) -> Iterator[Block]:
        """Every video once, in blocks of like length and at most `most_rows` rows (or one video)."""
        order, lengths = self._by_length
        start = 0
        while start < len(order):
            shortest = int(lengths[start])
            most = int(np.searchsorted(lengths, _LENGTHS_TOGETHER * shortest + 1, side="right"))
            same = int(np.searchsorted(lengths, shortest, side="right"))
            # A run of one length needs no padding, so it is a block of its own as soon as it is worth one.
            stop = same if (same - start) * shortest * 4 >= most_rows else most
            longest = int(lengths[stop - 1])
            stop = min(stop, start + max(1, most_rows // longest))
            longest = int(lengths[stop - 1])
            yield self._block(order[start:stop], longest)
            start = stop

    @cached_property
    def _by_length(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.lexsort((self.first, self.length))
        return order, self.length[order]

    def _block(self, videos: NDArray[np.int64], longest: int) -> Block:
        first, length = self.first[videos], self.length[videos]
        if (length == longest).all():
            low = int(first[0])
            if (np.diff(first) == longest).all():
                return Block(videos, longest, slice(low, low + longest * len(videos)), None)
            return Block(videos, longest, (first[:, None] + np.arange(longest)).ravel(), None)
        within = np.arange(longest)
        rows = first[:, None] + np.minimum(within, length[:, None] - 1)
        return Block(videos, longest, rows.ravel(), within >= length[:, None])


def evenly_spaced(length: NDArray[np.int64], every: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of 0 .. M - 1 for every M in length, ceil(M / every): the middles of as many equal stretches, and how many they
    are."""
    kept = -(-length // every)
    within = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept, kept)
    return ((within + 0.5) * np.repeat(length / kept, kept)).astype(np.int64), kept


def normalised(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows as float32, L2-normalised (again, after their float16 storage); a zero row stays zero."""
    import torch

    return torch.nn.functional.normalize(torch.tensor(vectors).float(), dim=1).numpy()


def products(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(Q, n) products of queries (Q, D) and vectors (n, D). By torch, whose threads all other scoring uses: beside
    them, those of NumPy's BLAS wait for each other, up to fifty times as long on a busy machine."""
    import torch

    return (torch.from_numpy(queries) @ torch.from_numpy(vectors).T).numpy()


@dataclass(frozen=True)
class Kept:
    """What of ragged rows counts: `rows`, of which video v owns length[v]; where is_nan is true, a row stands for a
    video that has none, and is to be NaN."""

    rows: NDArray[np.int64]
    length: NDArray[np.int64]
    is_nan: NDArray[np.bool_]

    @classmethod
    def of(cls, finite: NDArray[np.bool_], first: NDArray[np.int64]) -> "Kept":
        """Of rows that lie one video after another from first[v] on: those that are finite, no evidence being in the
        others; of a video without one, its first."""
        counts = np.add.reduceat(finite, first, dtype=np.int64)
        keep = finite.copy()
        keep[first[counts == 0]] = True
        rows = np.flatnonzero(keep)
        return cls(rows, np.maximum(counts, 1), ~finite[rows])

    def of_vectors(self, stored: NDArray[np.float16]) -> NDArray[np.float16]:
        """The kept ones of vectors (n, D)."""
        kept = stored[self.rows]
        kept[self.is_nan] = np.nan
        return kept
