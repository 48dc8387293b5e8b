"""The vector index on super images, for ad-hoc search on corpora too large to score exactly.

It only nominates videos: candidates are completed to whole videos and scored exactly by `qasir.retrieval.searcher`.
Type and parameters were chosen by measurement (`benchmarks/retrieval.py`).

By Lance itself: LanceDB (0.40) takes no centroids for an index, its query builder spends twice the time on the same
query (7 to 8 ms of CPU against 3 to 4, of 20,000 rows), and its import costs a cold search three seconds.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from lance import LanceDataset
from numpy.typing import NDArray

from qasir.errors import NoIndexError, UnreadableIndexError
from qasir.index.finite import is_finite
from qasir.index.snapshot import VECTOR_INDEX, Snapshot, matrix
from qasir.index.trouble import named
from qasir.index.writer import Writer
from qasir.retrieval.vectors import normalised

_FEWEST_ROWS = 256
_ROWS_A_PARTITION = 1000
_MOST_PARTITIONS = 8192
_SAMPLES_A_PARTITION = 64
_ROUNDS = 10
_ROWS_AT_ONCE = 1 << 14
_WIDER = 4


@dataclass(frozen=True)
class Probing:
    """How much of the index one query looks at: candidate super images, the partitions they come from, and how many
    videos they should name at least."""

    candidates: int = 800
    partitions: int = 96
    videos: int = 100

    def for_top(self, top_k: int) -> "Probing":
        """Enough for that many hits."""
        factor = max(1, math.ceil(4 * top_k / self.videos))
        return Probing(self.candidates * factor, self.partitions * factor, self.videos * factor)

    def for_share(self, share: float) -> "Probing":
        """Enough for a filter that keeps this share of the videos, > 0, to leave as much; at most as much more as
        `wider`."""
        factor = min(_WIDER, 1 / share)
        return Probing(math.ceil(self.candidates * factor), math.ceil(self.partitions * factor), self.videos)

    def wider(self) -> "Probing":
        """For when a filter, or long videos, left too few."""
        return Probing(self.candidates * _WIDER, self.partitions * _WIDER, self.videos)


def build(writer: Writer) -> int:
    """Make (or make again) the vector index; returns how many super images it holds.

    IVF with 8-bit scalar quantisation; the centroids come from a seeded k-means over a sample. Raises NoIndexError when
    there are too few super images for one to make sense.
    """
    with named(writer.index.uri):
        return _build(writer, writer.index.table("super_images"))


def _build(writer: Writer, dataset: LanceDataset) -> int:
    index = writer.index
    n_rows = dataset.count_rows()
    if n_rows < _FEWEST_ROWS:
        raise NoIndexError(
            f"the index at {index.uri} has {n_rows} super images: fewer than {_FEWEST_ROWS} are scored exactly faster"
        )
    n_partitions = partitions(n_rows)
    chosen = np.random.default_rng(0).choice(n_rows, min(n_rows, n_partitions * _SAMPLES_A_PARTITION), replace=False)
    sample = dataset.take(np.sort(chosen).tolist(), columns=["embedding"])["embedding"]
    stored = matrix(sample, index.spec.embedding_dim)
    usable = stored[is_finite(stored)]
    if len(usable) < n_partitions:
        raise UnreadableIndexError(
            f"the index at {index.uri}: {len(stored) - len(usable)} of {len(stored)} super images looked at have "
            "numbers that are not finite: run jobs/reindex_corpus.py --repair first"
        )
    found = centroids(normalised(usable), n_partitions)
    with writer.changing("super_images") as held:
        held.create_index(
            "embedding",
            index_type="IVF_SQ",
            name=VECTOR_INDEX,
            metric="cosine",
            num_partitions=n_partitions,
            ivf_centroids=found.astype(np.float16),
            replace=True,
        )
    return n_rows


def partitions(n_rows: int) -> int:
    """About a thousand rows each."""
    return max(1, min(_MOST_PARTITIONS, math.ceil(n_rows / _ROWS_A_PARTITION)))


def centroids(sample: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """(n, D) by spherical k-means over a sample (m, D) of L2-normalised rows, m >= n; a fixed seed makes it
    repeatable."""
    rows = torch.from_numpy(sample)
    start = np.random.default_rng(1).choice(len(sample), n, replace=False)
    centres = rows[torch.from_numpy(start)].clone()
    for _ in range(_ROUNDS):
        nearest_one = torch.cat([(some @ centres.T).argmax(dim=1) for some in rows.split(_ROWS_AT_ONCE)])
        sums = torch.zeros_like(centres).index_add_(0, nearest_one, rows)
        # A centre that lost all its rows stays where it is.
        filled = torch.bincount(nearest_one, minlength=n) > 0
        centres[filled] = torch.nn.functional.normalize(sums[filled], dim=1)
    return centres.numpy()


def nearest(snapshot: Snapshot, query: NDArray[np.float32], probing: Probing) -> list[str]:
    """Distinct video ids of the super images nearest to one query (D,), nearest first; rows added since the index was
    built are among those looked at, rows that are not readable are passed over."""
    with named(snapshot.uri):
        rows = snapshot.images_dataset.scanner(
            columns=["_distance"],
            with_row_id=True,
            nearest={
                "column": "embedding",
                "q": query.astype(np.float16),
                "k": probing.candidates,
                "minimum_nprobes": probing.partitions,
                "maximum_nprobes": probing.partitions,
            },
        ).to_table()
    return snapshot.rows().videos_at(rows["_rowid"].to_numpy())
