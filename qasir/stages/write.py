"""Stage 3: writes encoded rows as uncommitted Lance fragments."""

import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.index import Index, matrix
from qasir.stages.rows import BROKEN, RECEIPT_SCHEMA, REPORT

log = logging.getLogger(__name__)


def write_rows(rows: pa.Table, index: Index) -> pa.Table:
    """Write encoded rows as uncommitted fragments; the one-row receipt says what is in them (`Receipt.parse`)."""
    broken = rows.filter(pc.equal(rows["position"], BROKEN))["report"].to_pylist()
    if broken:
        return pa.Table.from_pylist([{"broken": broken[0]}], schema=RECEIPT_SCHEMA)
    try:
        return _write(rows, index)
    except Exception as error:
        log.exception("writing a batch of %d rows to %s", len(rows), index.uri)
        message = f"writing to {index.uri} failed: {type(error).__name__}: {error}"
        return pa.Table.from_pylist([{"broken": message}], schema=RECEIPT_SCHEMA)


def _write(rows: pa.Table, index: Index) -> pa.Table:
    is_image = np.asarray(rows["position"]) != REPORT
    images = rows.filter(pa.array(is_image))
    reports = rows.filter(pa.array(~is_image))["report"].to_pylist()
    fragments = index.write_super_images(images) if len(images) else []
    positions: dict[str, list[int]] = {}
    sums: list[NDArray[np.float64]] = []
    ids, at = np.asarray(images["video_id"]), np.asarray(images["position"])
    vectors = matrix(images["embedding"], index.spec.embedding_dim).astype(np.float64)
    for video_id in dict.fromkeys(ids.tolist()):
        mine = ids == video_id
        positions[video_id] = at[mine].tolist()
        sums.append(vectors[mine].sum(axis=0))
    receipt = {
        "fragments": json.dumps([fragment.to_json() for fragment in fragments]),
        "positions": json.dumps(positions),
        "sums": np.stack(sums).tobytes() if sums else b"",
        "reports": json.dumps([json.loads(report) for report in reports]),
    }
    return pa.Table.from_pylist([receipt], schema=RECEIPT_SCHEMA)
