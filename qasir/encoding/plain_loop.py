"""The stages of encoding one after another, without Ray: what a library user with ten videos runs, and most tests."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial

import pyarrow as pa

from qasir.encoding.ahead import Ahead
from qasir.encoding.bounds import Capacity
from qasir.encoding.child import Decode, Task, on_cpu
from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import Decoded, decode_segments
from qasir.encoding.encoder import Encoder, ImageModel
from qasir.encoding.in_flight import InFlight
from qasir.encoding.options import EncodeOptions
from qasir.encoding.receipts import Receipt, Written, written_of
from qasir.encoding.reports import reports_of
from qasir.encoding.watched import Death, WatchedDecoder, death_of
from qasir.encoding.write import write_rows
from qasir.index.index import Index

_PARTS_AHEAD = 8
"""Of a few megabytes each: what is decoded while a batch is encoded."""
_BATCH = 16


class PlainLoop:
    """`Stages` that cut and decode in one watched child, and encode and write in this process.

    models: makes what encodes for each index, called when there is something to encode. batch: how many super images
    are encoded at once; calls: how many batches are under way, each in a thread. encoder_threads: cores that a model
    computes on, 0 where it has a GPU. isolate: whether there is a child; without one no limit of time or memory holds,
    and a file that kills its decoder kills this process.
    """

    def __init__(
        self,
        indexes: Sequence[Index],
        models: Callable[[], Sequence[ImageModel]],
        options: EncodeOptions,
        *,
        batch: int = _BATCH,
        calls: int = 1,
        encoder_threads: int = 1,
        isolate: bool = True,
        decode: Decode = decode_segments,
    ) -> None:
        self.capacity = Capacity(os.cpu_count() or 1, 1, 1, encoder_threads)
        self._indexes = indexes
        self._models = models
        self._task = Task(decode, [index.spec for index in indexes], options)
        self._batch = batch
        self._calls = calls
        self._isolate = isolate

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._task.specs, self._models())

    def run(self, plan: pa.Table) -> Generator[Receipt, None, None]:
        waiting: list[pa.Table] = []
        encoding: InFlight[pa.Table]
        with InFlight(self._calls) as encoding, self._decoded(plan) as parts:
            for part in parts:
                yield from reports_of(part.reports)
                waiting.append(part.tiles)
                if sum(map(len, waiting)) >= self._batch:
                    tiles = pa.concat_tables(waiting)
                    whole = len(tiles) - len(tiles) % self._batch
                    for start in range(0, whole, self._batch):
                        batch = tiles.slice(start, self._batch)
                        yield from self._written(encoding.add(partial(self._encoder, batch)))
                    waiting = [tiles.slice(whole)]
            if any(map(len, waiting)):
                yield from self._written(encoding.add(partial(self._encoder, pa.concat_tables(waiting))))
            yield from self._written(encoding.rest())

    def alone(self, segments: Sequence[pa.Table]) -> list[Death | None]:
        if not self._isolate:  # this process is alive, so none of them killed it
            return [None] * len(segments)
        self._task = on_cpu(self._task)
        return [death_of(each, self._task) for each in segments]

    def _written(self, encoded: Iterator[pa.Table]) -> Iterator[Written]:
        for rows in encoded:
            yield from written_of(write_rows(rows, self._indexes))

    @contextmanager
    def _decoded(self, plan: pa.Table) -> Iterator[Iterator[Decoded]]:
        task = self._task
        if not self._isolate:
            # An alarm would end this process, and a limit would leave it without memory for the rest of its work.
            options = replace(task.options, decode_timeout_s=None, decode_memory=None)
            yield task.decode(cut_videos(plan, task.specs, **options.cut_limits), task.specs, **options.decode_limits)
            return
        with (
            WatchedDecoder(task) as decoder,
            Ahead(_each(decoder, plan), most=_PARTS_AHEAD, stop=decoder.close) as parts,
        ):
            yield iter(parts)


def _each(decoder: WatchedDecoder, plan: pa.Table) -> Iterator[Decoded]:
    yield from decoder.decode(decoder.cut(plan))
