"""Stage 3: turns tiles into embeddings, for every index that wants them."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.encoding.rows import ENCODED_SCHEMA, SUPER_IMAGE_COLUMNS, failure_row
from qasir.files.readable import reason
from qasir.index.spec import EncoderSpec

log = logging.getLogger(__name__)


class ImageModel(Protocol):
    """What encodes super images: a `qasir.vlm.model.Vlm`, or anything that gives vectors for pixels."""

    def encode_images(
        self, pixels: NDArray[np.uint8], *, grid: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """pixels (B, S, S, 3) -> (B, D) and, with `grid`, (B, N^2, D); rows L2-normalised."""
        ...


class Encoder:
    """Encodes tiles for a list of indexes: specs[i] is what index i holds, models[i] encodes for it.

    Threads may call it where they may call its models.
    """

    def __init__(self, specs: Sequence[EncoderSpec], models: Sequence[ImageModel]) -> None:
        self.specs = specs
        self._models = models
        self._timing = threading.Lock()
        self._ended = self._cpu_ended = 0.0

    def __call__(self, tiles: pa.Table) -> pa.Table:
        """TILE_SCHEMA -> ENCODED_SCHEMA; one failure row where a model raises."""
        began, since, cpu_since = time.time(), time.perf_counter(), time.process_time()
        try:
            rows = [self._encoded(index, images) for index, images in enumerate(_by_index(tiles, len(self.specs)))]
        except Exception as error:
            log.exception("encoding a batch of %d super images", len(tiles))
            return failure_row(f"the encoder failed: {type(error).__name__}: {reason(error)}", ENCODED_SCHEMA)
        table = pa.concat_tables(
            [ENCODED_SCHEMA.empty_table(), *(part for part in rows if part is not None)], promote_options="default"
        )
        took_s, cpu_s = self._busy_s(since, cpu_since)
        told = {"encode_s": took_s / max(1, len(table)), "encode_cpu_s": cpu_s / max(1, len(table)), "began": began}
        return _with(table, **{name: np.full(len(table), value) for name, value in told.items()})

    def _busy_s(self, since: float, cpu_since: float) -> tuple[float, float]:
        """Seconds, of the clock and of this process's CPUs, of a call that began then and ends now: what passed while
        an earlier one was under way is that one's."""
        with self._timing:
            began, cpu_began = max(since, self._ended), max(cpu_since, self._cpu_ended)
            self._ended, self._cpu_ended = time.perf_counter(), time.process_time()
            return self._ended - began, self._cpu_ended - cpu_began

    def _encoded(self, index: int, images: pa.Table) -> pa.Table | None:
        if not len(images):
            return None
        spec = self.specs[index]
        embeddings, cell_embeddings = self._models[index].encode_images(
            _pixels(images, spec.image_size), grid=spec.grid if spec.cells else None
        )
        columns = {name: images[name] for name in SUPER_IMAGE_COLUMNS}
        columns["index"] = pa.array(np.full(len(images), index, np.int32))
        columns["embedding"] = _packed(embeddings)
        if cell_embeddings is not None:
            columns["cell_embeddings"] = _packed(cell_embeddings)
        if spec.thumbnails:
            columns["thumbnail"] = images["thumbnail"]
        return pa.table(columns)


def _by_index(tiles: pa.Table, n_indexes: int) -> list[pa.Table]:
    """The tiles that each index wants; all of them without a copy."""
    wanted = pa.chunked_array([tiles["indexes"].combine_chunks()]).chunk(0)
    row, index = np.asarray(pc.list_parent_indices(wanted)), np.asarray(pc.list_flatten(wanted))
    parts = []
    for number in range(n_indexes):
        rows = row[index == number]
        parts.append(tiles if len(rows) == len(tiles) else tiles.take(pa.array(rows)))
    return parts


def _pixels(images: pa.Table, side: int) -> NDArray[np.uint8]:
    """(n, side, side, 3), without a copy where the rows lie together."""
    column = images["pixels"].combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    _, offsets, data = chunk.buffers()
    start = np.frombuffer(offsets, np.int64)[chunk.offset]
    count = len(chunk) * side * side * 3
    return np.frombuffer(data, np.uint8, count, int(start)).reshape(len(chunk), side, side, 3)


def _packed(vectors: NDArray[np.float32]) -> pa.Array:
    """One binary value a row: its numbers as float16. What is not finite is found where it is written."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(vectors.reshape(len(vectors), -1), dtype=np.float16)
    return pa.array([row.tobytes() for row in rows], pa.binary())


def _with(table: pa.Table, **columns: NDArray[np.float64]) -> pa.Table:
    """The table with these columns replaced."""
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    return table
