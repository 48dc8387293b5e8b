"""Times the models of a run, by what encodes for it. To be called in a process of its own, whose start is part of what
an encoder's takes: imports no torch until then."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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
    sources: "Sequence[VlmSource]",
    specs: Sequence[EncoderSpec],
    *,
    batch: int,
    threads: int | None,
    under_way: int,
    most_s: float,
) -> Iterator[pa.Table]:
    """ENCODING_SCHEMA: each index's model on made-up super images, at the run's batch, or at as many as take two
    seconds; for about most_s seconds in all. under_way: batches that an encoder has under way at once."""
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
            known[id(model), grid] = list(_batches(model, pixels, grid, under_way, most_s / len(specs)))
        for found in known[id(model), grid]:
            yield _rows(index=index, **found)


def _batches(model: Any, pixels: Any, grid: int | None, under_way: int, most_s: float) -> Iterator[dict[str, Any]]:
    """What each batch took, from the end of the one before it."""
    few = partial(model.encode_images, pixels[:_WARM], grid=grid)
    few()
    since = time.perf_counter()
    few()
    n = max(1, min(len(pixels), int(_BATCH_S * _WARM / (time.perf_counter() - since))))
    encode = partial(model.encode_images, pixels[:n], grid=grid)
    core_s = wall_s = 0.0
    for number, _ in enumerate(_done(encode, under_way, most_s)):
        before, (core_s, wall_s) = (core_s, wall_s), (time.process_time(), time.perf_counter())
        if number >= under_way:  # the first ones warm it up
            yield {"core_s": (core_s - before[0]) / n, "wall_s": (wall_s - before[1]) / n, "at": time.time()}


def _done(encode: Callable[[], object], under_way: int, most_s: float) -> Iterator[None]:
    """Calls encode again and again, so many times at once, and comes back after each."""
    least, most = under_way + _LEAST_BATCHES, under_way + _MOST_BATCHES
    ends = time.perf_counter() + most_s
    with ThreadPoolExecutor(under_way) as pool:
        waiting = deque(pool.submit(encode) for _ in range(under_way))
        n = under_way
        while waiting:
            waiting.popleft().result()
            if n < most and (n < least or time.perf_counter() < ends):
                waiting.append(pool.submit(encode))
                n += 1
            yield


def _rows(**row: Any) -> pa.Table:
    return pa.Table.from_pylist([row], schema=ENCODING_SCHEMA)
