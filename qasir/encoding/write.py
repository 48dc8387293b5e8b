"""Stage 4: writes encoded rows as uncommitted Lance fragments."""

import logging
import pickle
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.encoding.rows import SUPER_IMAGE_COLUMNS, WRITTEN_SCHEMA, failure_row
from qasir.errors import StorageError
from qasir.files.readable import reason
from qasir.index.finite import is_finite
from qasir.index.index import Index, embedding_column

log = logging.getLogger(__name__)


def write_rows(rows: pa.Table, indexes: Sequence[Index]) -> pa.Table:
    """ENCODED_SCHEMA -> WRITTEN_SCHEMA: uncommitted fragments, and what is in them; or one failure row."""
    failures = rows["failure"].drop_null()
    if len(failures):
        return failure_row(failures[0].as_py(), WRITTEN_SCHEMA)
    try:
        return pa.Table.from_pylist(list(_written(rows, indexes)), schema=WRITTEN_SCHEMA)
    except StorageError as error:
        return failure_row(str(error), WRITTEN_SCHEMA)
    except Exception as error:
        log.exception("writing a batch of %d rows", len(rows))
        uris = ", ".join(index.uri for index in indexes)
        return failure_row(f"writing to {uris} failed: {type(error).__name__}: {reason(error)}", WRITTEN_SCHEMA)


def _written(rows: pa.Table, indexes: Sequence[Index]) -> Iterator[dict[str, Any]]:
    for number in pc.unique(rows["index"]).to_pylist():
        since = time.perf_counter()
        mine = _kept(rows, np.asarray(pc.equal(rows["index"], number)))
        written = _write(mine, indexes[number])
        yield {
            **written,
            "index": number,
            "encode_s": pc.sum(mine["encode_s"]).as_py(),
            "encode_cpu_s": pc.sum(mine["encode_cpu_s"]).as_py(),
            "began": pc.min(mine["began"]).as_py(),
            "write_s": time.perf_counter() - since,
        }


def _write(rows: pa.Table, index: Index) -> dict[str, Any]:
    """Writes the rows whose embeddings are finite; names the others."""
    spec = index.spec
    vectors = _unpacked(rows["embedding"], spec.embedding_dim)
    columns = {"embedding": vectors}
    if spec.cells:
        columns["cell_embeddings"] = _unpacked(rows["cell_embeddings"], spec.grid**2 * spec.embedding_dim)
    finite = np.logical_and.reduce([is_finite(values) for values in columns.values()])
    table = rows.select([*SUPER_IMAGE_COLUMNS, *(["thumbnail"] if spec.thumbnails else [])])
    for name, values in columns.items():
        table = table.append_column(name, embedding_column(values))
    table = _kept(table, finite)
    fragments = index.write_super_images(table) if len(table) else []
    return {
        "fragments": [pickle.dumps(fragment) for fragment in fragments],
        "videos": list(_by_video(table, vectors if finite.all() else vectors[finite])),
        "not_finite": list(_positions(rows.filter(pa.array(~finite)))),
    }


def _kept(rows: pa.Table, which: NDArray[np.bool_]) -> pa.Table:
    """Some rows; where it is all, without a copy."""
    return rows if which.all() else rows.filter(pa.array(which))


def _by_video(rows: pa.Table, vectors: NDArray[np.float16]) -> Iterator[dict[str, Any]]:
    for video_id, mine in _rows_each(rows):
        positions = np.asarray(rows["position"])[mine].tolist()
        total = vectors[mine].astype(np.float64).sum(axis=0)
        yield {"video_id": video_id, "positions": positions, "total": total}


def _positions(rows: pa.Table) -> Iterator[dict[str, Any]]:
    for video_id, mine in _rows_each(rows):
        yield {"video_id": video_id, "positions": np.asarray(rows["position"])[mine].tolist()}


def _rows_each(rows: pa.Table) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each video and the numbers of its rows, in order."""
    coded = pa.chunked_array([rows["video_id"].combine_chunks()]).chunk(0).dictionary_encode()
    number = np.asarray(coded.indices)
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(number, minlength=len(coded.dictionary)))[:-1])
    yield from zip(coded.dictionary.to_pylist(), parts, strict=False)


def _unpacked(column: pa.ChunkedArray, dim: int) -> NDArray[np.float16]:
    """(n, dim) of one binary value a row, without a copy where the rows lie together."""
    if not len(column):
        return np.empty((0, dim), np.float16)
    packed = pa.chunked_array([column.combine_chunks()]).chunk(0)
    _, offsets, data = packed.buffers()
    first, last = np.frombuffer(offsets, np.int32)[[packed.offset, packed.offset + len(packed)]].tolist()
    return np.frombuffer(data, np.float16, (last - first) // 2, first).reshape(len(packed), dim)
