"""Reads clips where a file may hang its decoder or kill it: in a watched child, and alone if it did not come back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from qasir.encoding.child import Task
from qasir.encoding.decode import Decoded
from qasir.encoding.options import EncodeOptions
from qasir.encoding.rows import REPORT_SCHEMA
from qasir.encoding.watched import Death, WatchedDecoder, death_of
from qasir.training.mof.clips import failure, read_clips
from qasir.video.tile import Tiling

Read = Callable[..., pa.Table]
"""`qasir.training.mof.clips.read_clips`, or what a test puts in its place."""


@dataclass(frozen=True)
class _ClipDecoder:
    """What encoding's child runs in the place of its own decoder: answers with `READ_SCHEMA` rows."""

    tiling: Tiling
    n_frames: int
    read: Read

    def __call__(
        self,
        videos: pa.Table,
        specs: Sequence[Any],
        *,
        time_limit_s: float | None = None,
        memory_limit: int | None = None,
        **_: Any,
    ) -> Iterator[Decoded]:
        rows = self.read(videos, self.tiling, self.n_frames, time_limit_s=time_limit_s, memory_limit=memory_limit)
        yield Decoded(rows, REPORT_SCHEMA.empty_table())


def clip_task(tiling: Tiling, n_frames: int, options: EncodeOptions, read: Read = read_clips) -> Task:
    """How a child reads clips, under the limits that encoding has."""
    return Task(_ClipDecoder(tiling, n_frames, read), [], options)


def read_here(
    videos: Sequence[pa.Table],
    tiling: Tiling,
    n_frames: int,
    *,
    options: EncodeOptions = EncodeOptions(),
    read: Read = read_clips,
) -> Iterator[pa.Table]:
    """A `qasir.training.mof.clip_table.ReadClips` in one child of this process, one video after another."""
    task = clip_task(tiling, n_frames, options, read)
    with WatchedDecoder(task) as decoder:
        for some in videos:
            for row in range(len(some)):
                video = some.slice(row, 1)
                tables = [part.tiles for part in decoder.decode(video)]
                yield pa.concat_tables(tables) if tables else read_alone(video, task)


def read_alone(video: pa.Table, task: Task) -> pa.Table:
    """The `READ_SCHEMA` row of one video that did not come back: its clip if that can be read after all, since another
    one or the machine was to blame; else an error that says what its decoder died of."""
    death = death_of(video, task)
    if death is None:
        with WatchedDecoder(task) as decoder:
            if tables := [part.tiles for part in decoder.decode(video)]:
                return pa.concat_tables(tables)
        death = Death("crashed", "the process that decodes it dies, though not each time")
    return failure(video["video_id"][0].as_py(), death.kind, death.message)
