"""Stage 4: writes encoded rows as uncommitted Lance fragments."""

import json
import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.encoding.rows import BROKEN, RECEIPT_SCHEMA, REPORT, SECONDS
from qasir.index.index import Index, embedding_column

log = logging.getLogger(__name__)


def write_rows(rows: pa.Table, indexes: Sequence[Index]) -> pa.Table:
    """Write encoded rows as uncommitted fragments; a one-row receipt an index says what is in them (`Receipt.parse`)."""
    broken = rows.filter(pc.equal(rows["position"], BROKEN))["report"].to_pylist()
    if broken:
        return pa.Table.from_pylist([{"broken": broken[0]}], schema=RECEIPT_SCHEMA)
    try:
        return pa.Table.from_pylist(list(_receipts(rows, indexes)), schema=RECEIPT_SCHEMA)
    except Exception as error:
        log.exception("writing a batch of %d rows", len(rows))
        message = f"writing to {', '.join(index.uri for index in indexes)} failed: {type(error).__name__}: {error}"
        return pa.Table.from_pylist([{"broken": message}], schema=RECEIPT_SCHEMA)


def _receipts(rows: pa.Table, indexes: Sequence[Index]) -> Iterator[dict[str, object]]:
    notes = [json.loads(note) for note in rows.filter(pc.equal(rows["position"], SECONDS))["report"].to_pylist()]
    seconds = {"encode": sum(note["encode"] for note in notes), "began": min((n["began"] for n in notes), default=0.0)}
    rows = rows.filter(pc.not_equal(rows["position"], SECONDS))
    for number in pc.unique(rows["index"]).to_pylist():
        since = time.perf_counter()
        receipt = _write(rows.filter(pc.equal(rows["index"], number)), indexes[number])
        seconds["write"] = time.perf_counter() - since
        yield {"index": number, "seconds": json.dumps(seconds), **receipt}
        seconds = {}


def _write(rows: pa.Table, index: Index) -> dict[str, object]:
    is_image = np.asarray(rows["position"]) != REPORT
    images = rows.filter(pa.array(is_image))
    reports = rows.filter(pa.array(~is_image))["report"].to_pylist()
    vectors = _unpacked(images["embedding"], index.spec.embedding_dim)
    positions: dict[str, list[int]] = {}
    sums: list[NDArray[np.float64]] = []
    ids, at = np.asarray(images["video_id"]), np.asarray(images["position"])
    for video_id in dict.fromkeys(ids.tolist()):
        mine = ids == video_id
        positions[video_id] = at[mine].tolist()
        sums.append(vectors[mine].astype(np.float64).sum(axis=0))
    return {
        "fragments": json.dumps(
            [f.to_json() for f in index.write_super_images(_columns(images, vectors, index))] if len(images) else []
        ),
        "positions": json.dumps(positions),
        "sums": np.stack(sums).tobytes() if sums else b"",
        "reports": json.dumps([json.loads(report) for report in reports]),
    }


def _columns(images: pa.Table, vectors: NDArray[np.float16], index: Index) -> pa.Table:
    spec = index.spec
    table = images.drop_columns(["embedding", "cell_embeddings"]).append_column("embedding", embedding_column(vectors))
    if spec.cells:
        cells = _unpacked(images["cell_embeddings"], spec.grid**2 * spec.embedding_dim)
        table = table.append_column("cell_embeddings", embedding_column(cells))
    return table


def _unpacked(column: pa.ChunkedArray, dim: int) -> NDArray[np.float16]:
    return np.frombuffer(b"".join(column.to_pylist()), dtype=np.float16).reshape(-1, dim)
