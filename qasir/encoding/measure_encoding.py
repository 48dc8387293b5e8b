"""Times the models of a run, by what encodes for it. To be called in a process of its own, whose start is part of what
an encoder's takes: imports no torch until then."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from qasir.errors import ModelError
from qasir.index.spec import EncoderSpec

if TYPE_CHECKING:
    from qasir.vlm.weights import VlmSource

ENCODING_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),  # null: the models are loaded
        ("core_s", pa.float64()),
        ("wall_s", pa.float64()),
        ("at", pa.float64()),
        ("failure", pa.string()),
    ]
)
"""A row a batch: for one super image of it, seconds of a core and seconds on the clock; when it was done, in seconds
since the epoch. Before that a row without an index, when the models are loaded: seconds of a core that the process took
since it started. failure: why a model cannot be loaded."""

_WARM = 2
_MOST_BATCHES = 20
_LEAST_BATCHES = 3
_BATCH_S = 2.0


@dataclass(frozen=True)
class EncodingTimes:
    """ready_at: when the models were loaded, in seconds since the epoch; loading_core_s: what that took of a core. Of
    each index and batch, what encoding one super image took: seconds of a core, and on the clock."""

    ready_at: float
    loading_core_s: float
    core_s: tuple[tuple[float, ...], ...]
    wall_s: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, tables: Sequence[pa.Table], n_indexes: int) -> "EncodingTimes":
        """Raises ModelError."""
        rows: list[dict[str, Any]] = [row for table in tables for row in table.to_pylist()]
        failure = next((row["failure"] for row in rows if row["failure"] is not None), None)
        if failure is not None:
            raise ModelError(failure)
        core_s, wall_s = (
            tuple(tuple(row[name] for row in rows if row["index"] == index) for index in range(n_indexes))
            for name in ("core_s", "wall_s")
        )
        ready = next(row for row in rows if row["index"] is None)
        return cls(ready["at"], ready["core_s"], core_s, wall_s)


def time_encoding(
    sources: "Sequence[VlmSource]", specs: Sequence[EncoderSpec], *, batch: int, threads: int | None, most_s: float
) -> Iterator[pa.Table]:
    """ENCODING_SCHEMA: each index's model on made-up super images, at the run's batch, or at as many as take two
    seconds; for about most_s seconds in all."""
    import numpy as np

    from qasir.encoding.models import load_models

    try:
        models = load_models(sources, specs, threads)
    except ModelError as error:
        yield _rows(failure=str(error))
        return
    yield _rows(at=time.time(), core_s=time.process_time())
    known: dict[tuple[int, int | None], list[dict[str, Any]]] = {}
    for index, (spec, model) in enumerate(zip(specs, models, strict=True)):
        grid = spec.grid if spec.cells else None
        if (id(model), grid) not in known:
            pixels = np.random.default_rng(0).integers(
                0, 256, (batch, spec.image_size, spec.image_size, 3), dtype=np.uint8
            )
            known[id(model), grid] = list(_batches(model, pixels, grid, most_s / len(specs)))
        for found in known[id(model), grid]:
            yield _rows(index=index, **found)


def _batches(model: Any, pixels: Any, grid: int | None, most_s: float) -> Iterator[dict[str, Any]]:
    _timed(model, pixels[:_WARM], grid)
    each_s = _timed(model, pixels[:_WARM], grid)["wall_s"]
    pixels = pixels[: max(1, int(_BATCH_S / each_s))]
    _timed(model, pixels, grid)
    ends = time.perf_counter() + most_s
    for number in range(_MOST_BATCHES):
        yield _timed(model, pixels, grid)
        if number + 1 >= _LEAST_BATCHES and time.perf_counter() > ends:
            return


def _timed(model: Any, pixels: Any, grid: int | None) -> dict[str, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    model.encode_images(pixels, grid=grid)
    n = len(pixels)
    return {
        "core_s": (time.process_time() - cpu) / n, "wall_s": (time.perf_counter() - wall) / n, "at": time.time(),
    }  # fmt: skip


def _rows(**row: Any) -> pa.Table:
    return pa.Table.from_pylist([row], schema=ENCODING_SCHEMA)
