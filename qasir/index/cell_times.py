"""When each cell of a super image is on display: what the column `cell_s` says, or, in rows that an older library
wrote, what follows from the rate at which it sampled. Whoever tells a time from a cell takes it from here."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.errors import UnreadableIndexError
from qasir.index.spec import EncoderSpec

TIMES = ("start_s", "end_s", "n_valid", "cell_s")
"""The columns of `super_images` that tell it."""


def cell_times(rows: pa.Table, spec: EncoderSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(start, end), (m,) seconds each, of the filled cells of rows with TIMES, `n_valid` of each row one after another.

    A cell lasts until the next one begins, the last one until its row's `end_s`. Raises UnreadableIndexError that names
    the first row whose times are not those of its cells.
    """
    lost = rows.filter(pc.invert(are_timed(rows, spec)))
    if len(lost):
        row = lost.select(["video_id", "position"]).slice(0, 1).to_pylist()[0]
        raise UnreadableIndexError(
            f"super image {row['position']} of {row['video_id']} does not say when its cells are: "
            "jobs/reindex_corpus.py --repair encodes the video again"
        )
    first_s, last_s = (rows[name].to_numpy() for name in ("start_s", "end_s"))
    n_valid = rows["n_valid"].to_numpy().astype(np.int64)
    behind = np.cumsum(n_valid)
    number = np.arange(n_valid.sum()) - np.repeat(behind - n_valid, n_valid)
    # Imported features of videos of given durations have no rate: theirs are as far apart as they are many.
    step = np.full(len(rows), 1.0 / spec.fps) if spec.fps else (last_s - first_s) / np.maximum(n_valid, 1)
    start = np.repeat(first_s, n_valid) + number * np.repeat(step, n_valid)
    told = rows["cell_s"].is_valid().to_numpy()
    start[np.repeat(told, n_valid)] = pc.list_flatten(rows["cell_s"]).to_numpy()
    end = np.append(start[1:], 0.0)
    end[behind[n_valid > 0] - 1] = last_s[n_valid > 0]
    return start, np.minimum(end, np.repeat(last_s, n_valid))


def are_timed(rows: pa.Table, spec: EncoderSpec) -> pa.ChunkedArray:
    """Of rows with TIMES, whether each has a time for every filled cell; no times are right too where samples were
    evenly spaced."""
    as_many = pc.equal(pc.list_value_length(rows["cell_s"]), rows["n_valid"])
    return pc.fill_null(as_many, spec.sampling == "uniform")
