"""The vector index on super images, for ad-hoc search on corpora too large to score exactly.

It only nominates videos: candidates are completed to whole videos and scored exactly by `qasir.search`. Type and parameters
were chosen by measurement (`benchmarks/retrieval.py`).
"""

import math
from dataclasses import dataclass

import numpy as np
from lance import LanceDataset
from numpy.typing import NDArray

from qasir.errors import NoIndexError
from qasir.index import Index
from qasir.snapshot import Snapshot

NAME = "embedding_idx"
KEYS = {"super_images": "video_id", "videos": "video_id"}
"""Columns that get a B-tree, so that the rows of one video are found without a scan."""
_FEWEST_ROWS = 256
_ROWS_A_PARTITION = 1024


@dataclass(frozen=True)
class Probing:
    """How much of the index one query looks at: candidate super images, the partitions they come from, and how many videos
    they should name at least."""

    candidates: int = 200
    partitions: int = 32
    videos: int = 20

    def for_top(self, top_k: int) -> "Probing":
        """Enough for that many hits."""
        factor = max(1, math.ceil(2 * top_k / self.videos))
        return Probing(self.candidates * factor, self.partitions * factor, self.videos * factor)

    def wider(self) -> "Probing":
        """For when a filter, or long videos, left too few."""
        return Probing(self.candidates * 4, self.partitions * 4, self.videos)


def build(index: Index) -> int:
    """Make (or make again) the vector index and the key indexes; returns how many super images it holds.

    Raises NoIndexError when there are too few super images for one to make sense.
    """
    dataset = index.table("super_images")
    n_rows = dataset.count_rows()
    if n_rows < _FEWEST_ROWS:
        raise NoIndexError(
            f"the index at {index.uri} has {n_rows} super images: fewer than {_FEWEST_ROWS} are scored exactly faster"
        )
    for name, column in KEYS.items():
        index.table(name).create_scalar_index(column, index_type="BTREE", replace=True)
    index.table("super_images").create_index(
        "embedding",
        index_type="IVF_SQ",
        name=NAME,
        metric="cosine",
        num_partitions=partitions(n_rows),
        replace=True,
    )
    return n_rows


def partitions(n_rows: int) -> int:
    return max(1, min(4096, math.ceil(n_rows / _ROWS_A_PARTITION)))


def there(dataset: LanceDataset) -> bool:
    """Whether this version of `super_images` has a vector index."""
    return any(entry["name"] == NAME for entry in dataset.list_indices())


def nearest(snapshot: Snapshot, query: NDArray[np.float32], probing: Probing) -> list[str]:
    """Distinct video ids of the super images nearest to one query (D,), nearest first; rows added since the index was
    built are among those looked at."""
    rows = snapshot.images_dataset.scanner(
        columns=["video_id", "_distance"],
        nearest={
            "column": "embedding",
            "q": query.astype(np.float16),
            "k": probing.candidates,
            "minimum_nprobes": probing.partitions,
            "maximum_nprobes": probing.partitions,
        },
    ).to_table()
    return list(dict.fromkeys(rows["video_id"].to_pylist()))
