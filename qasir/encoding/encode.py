"""Stage 3: turns tiles into embeddings, for every index that wants them, with each model loaded once a worker."""

import json
import logging
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from qasir.encoding.rows import BROKEN, ENCODED_SCHEMA, REPORT, SECONDS
from qasir.index.spec import EncoderSpec
from qasir.vlm.model import Vlm, VlmSource

log = logging.getLogger(__name__)


class Encoder:
    """Encodes tiles for a list of (model, spec), one an index. `threads` bounds what torch takes of a shared CPU."""

    def __init__(self, targets: Sequence[tuple[VlmSource, EncoderSpec]], threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.specs = [spec for _, spec in targets]
        models: dict[tuple[VlmSource, int, str], Vlm] = {}
        for source, spec in targets:
            key = (source, spec.image_size, spec.precision)
            if key not in models:
                models[key] = Vlm(source, image_size=spec.image_size, precision=spec.precision)
        self._models = [models[source, spec.image_size, spec.precision] for source, spec in targets]

    def __call__(self, tiles: pa.Table) -> pa.Table:
        """Encoded rows; or one BROKEN row, since an exception here would only lose the batch."""
        try:
            return self.encode(tiles)
        except Exception as error:
            log.exception("encoding a batch of %d rows", len(tiles))
            message = f"the encoder failed: {type(error).__name__}: {error}"
            return pa.Table.from_pylist([{"position": BROKEN, "report": message}], schema=ENCODED_SCHEMA)

    def encode(self, tiles: pa.Table) -> pa.Table:
        began, since = time.time(), time.perf_counter()
        is_image = np.asarray(tiles["position"]) != REPORT
        images, reports = tiles.filter(pa.array(is_image)), tiles.filter(pa.array(~is_image))
        parts = [self._encode_for(index, images) for index in range(len(self.specs))]
        numbers = np.asarray(reports["indexes"]).astype(np.int64)
        passed_on = reports.select(["video_id", "fingerprint", "position", "report"]).append_column(
            "index", pa.array(np.log2(np.maximum(numbers, 1)).astype(np.int32), pa.int32())
        )
        took = {"encode": time.perf_counter() - since, "began": began}
        note = pa.table({"position": pa.array([SECONDS], pa.int32()), "report": [json.dumps(took)]})
        return pa.concat_tables(
            [ENCODED_SCHEMA.empty_table(), *(part for part in parts if part is not None), passed_on, note],
            promote_options="default",
        )

    def _encode_for(self, index: int, images: pa.Table) -> pa.Table | None:
        wanted = (np.asarray(images["indexes"]) >> index) & 1
        images = images.filter(pa.array(wanted.astype(bool)))
        if not len(images):
            return None
        spec = self.specs[index]
        embeddings, cell_embeddings = self._models[index].encode_images(
            _pixels(images, spec.image_size), grid=spec.grid if spec.cells else None
        )
        columns = {
            name: images[name] for name in ("video_id", "fingerprint", "position", "start_s", "end_s", "n_valid")
        }
        columns["index"] = pa.array(np.full(len(images), index, np.int32))
        columns["embedding"] = _packed(embeddings)
        if cell_embeddings is not None:
            columns["cell_embeddings"] = _packed(cell_embeddings)
        if spec.thumbnails:
            columns["thumbnail"] = images["thumbnail"]
        return pa.table(columns)


def _pixels(images: pa.Table, side: int) -> NDArray[np.uint8]:
    """(n, side, side, 3), without a copy where the rows lie together."""
    column = images["pixels"].combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    _, offsets, data = chunk.buffers()
    start = np.frombuffer(offsets, np.int64)[chunk.offset]
    count = len(chunk) * side * side * 3
    return np.frombuffer(data, np.uint8, count, int(start)).reshape(len(chunk), side, side, 3)


def _packed(vectors: NDArray[np.float32]) -> pa.Array:
    """One binary value a row: its numbers as float16."""
    rows = np.ascontiguousarray(vectors.reshape(len(vectors), -1), dtype=np.float16)
    return pa.array([row.tobytes() for row in rows], pa.binary())
