"""Stage: scores the super images of one Lance fragment, for a corpus that does not fit one machine's memory."""

import logging
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.files.readable import reason
from qasir.index.finite import is_finite
from qasir.index.ragged import ragged_rows, runs_of, starts
from qasir.index.schemas import embedding_type
from qasir.index.snapshot import matrix, readable
from qasir.index.trouble import named
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.scoring import score
from qasir.retrieval.vectors import Features, Kept, normalised

log = logging.getLogger(__name__)

COLUMNS = ["video_id", "fingerprint", "position", "embedding"]


def scored_schema(n_queries: int, dim: int) -> pa.Schema:
    """A row a video that lies wholly in the fragment, with its scores; or, for one that does not, a row a super image.
    One row more says that the `fragment` of this number was scored, and how many of how many super images were not
    finite; or, with an `error`, that it was not, and why."""
    return pa.schema(
        [
            pa.field("video_id", pa.string()),
            pa.field("scores", pa.list_(pa.float32(), n_queries)),
            pa.field("position", pa.int32()),
            pa.field("embedding", embedding_type(dim)),
            pa.field("fragment", pa.int64()),
            pa.field("n_read", pa.int64()),
            pa.field("n_not_finite", pa.int64()),
            pa.field("error", pa.string()),
        ]
    )


def score_fragment(
    fragments: pa.Table, *, uri: str, version: int, current: pa.Table, queries: NDArray[np.float32], method: Pooled
) -> pa.Table:
    """fragments: one row with a `fragment` number of the dataset at uri; current: video_id, fingerprint and
    n_super_images of the encoded videos; queries (Q, D). Whatever goes wrong is told by the rows, which reach whoever
    waits for all fragments."""
    (number,) = fragments["fragment"].to_pylist()
    schema = scored_schema(*queries.shape)
    try:
        parts, told = _scored(number, uri, version, current, queries, method)
    except Exception as error:
        log.exception("fragment %d of %s", number, uri)
        parts, told = [], {"error": f"{type(error).__name__}: {reason(error)}"}
    last = pa.Table.from_pylist([{"fragment": number, **told}])
    return pa.concat_tables([schema.empty_table(), *parts, last], promote_options="default")


def _scored(
    number: int, uri: str, version: int, current: pa.Table, queries: NDArray[np.float32], method: Pooled
) -> tuple[list[pa.Table], dict[str, Any]]:
    """(the rows of one fragment, what is told of it)."""
    with named(uri):
        dataset = lance.dataset(uri, version=version)
        (fragment,) = [one for one in dataset.get_fragments() if one.fragment_id == number]
        rows = fragment.to_table(columns=COLUMNS)
    rows = readable(rows, current).sort_by([("video_id", "ascending"), ("position", "ascending")])
    whole = dict(zip(current["video_id"].to_pylist(), current["n_super_images"].to_pylist(), strict=True))
    ids, first, length = runs_of(rows["video_id"])
    complete = np.array([whole[video_id] for video_id in ids], dtype=np.int64) == length
    values = score_features(rows, first[complete], length[complete], queries, method)
    scored = pa.table(
        {
            "video_id": pa.array(
                [video_id for video_id, is_whole in zip(ids, complete, strict=True) if is_whole], pa.string()
            ),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(values.T.ravel()), len(queries)),
        }
    )
    split = rows.filter(pa.array(np.repeat(~complete, length), pa.bool_())).select(
        ["video_id", "position", "embedding"]
    )
    broken = ~is_finite(matrix(rows["embedding"], queries.shape[1]))
    return [scored, split], {"n_read": len(rows), "n_not_finite": int(broken.sum())}


def score_features(
    rows: pa.Table, first: NDArray[np.int64], length: NDArray[np.int64], queries: NDArray[np.float32], method: Pooled
) -> NDArray[np.float32]:
    """(Q, V) scores of the videos whose rows start at first and are length many, by those rows that are finite."""
    if not len(first):
        return np.zeros((len(queries), 0), np.float32)
    stored = matrix(rows["embedding"], queries.shape[1])
    if not (finite := is_finite(stored)).all():
        mine = ragged_rows(first, length)
        kept = Kept.of(finite[mine], starts(length)[0])
        stored = kept.of_vectors(stored[mine])
        first, length = starts(kept.length)
    return score(queries, Features(first, length, normalised(stored)), method)
