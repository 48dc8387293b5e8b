"""Rows of many videos, any number a video: which rows are whose."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def numbered(video_ids: Sequence[str]) -> dict[str, int]:
    """video_id -> its place in the sequence."""
    return {video_id: v for v, video_id in enumerate(video_ids)}


def starts(length: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first, length) of videos whose rows lie one after another in their order."""
    return np.cumsum(length) - length, length


def ragged_rows(first: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows first[v] .. first[v] + length[v] of every v, one after another."""
    return np.repeat(first - (np.cumsum(length) - length), length) + np.arange(length.sum())


def runs_of(column: "pa.ChunkedArray") -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """(values, first row, rows) of the runs of equal values in a sorted column of strings."""
    import pyarrow as pa  # here: what names ways of ranking needs none of it
    import pyarrow.compute as pc

    if len(column) == 0:
        return [], np.zeros(0, np.int64), np.zeros(0, np.int64)
    coded = pc.run_end_encode(column.combine_chunks())
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    ends = coded.run_ends.to_numpy().astype(np.int64)
    first = np.concatenate([[0], ends[:-1]])
    return coded.values.to_pylist(), first, ends - first
