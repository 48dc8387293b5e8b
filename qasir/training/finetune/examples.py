"""Training examples: (query, video) pairs whose vectors come from an index's tables, a batch at a time.

An epoch is a list of batches, the same for one seed and epoch on any machine. A batch is planned as the numbers of its
pairs and of the table rows of its distinct videos; `load_videos` reads those rows anywhere, and `collate` makes tensors
of them.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from qasir.errors import QasirError, QueryError, UnreadableIndexError
from qasir.evaluation.query import Query
from qasir.index.finite import finite_rows
from qasir.index.ragged import numbered, ragged_rows
from qasir.index.snapshot import Snapshot, matrix
from qasir.index.trouble import named
from qasir.retrieval.vectors import normalised
from qasir.training.finetune.objective import Batch

log = logging.getLogger(__name__)

PLAN_SCHEMA = pa.schema([("video", pa.int64()), ("rows", pa.list_(pa.int64()))])
VIDEO_SCHEMA = pa.schema(
    [
        ("video", pa.int64()),
        ("n_images", pa.int64()),
        ("images", pa.large_binary()),  # float16 (n_images, D)
        ("n_cells", pa.int64()),
        ("cells", pa.large_binary()),  # float16 (n_cells, D); empty without cells
    ]
)

Read = Callable[[Sequence[pa.Table]], Iterable[pa.Table]]
"""Reads the videos of `PLAN_SCHEMA` tables: `VIDEO_SCHEMA` tables, their rows in the same order, cut anywhere."""


@dataclass(frozen=True)
class VideoRows:
    """Where the vectors of videos are: a pinned table and each video's rows in it. Small enough to send anywhere."""

    uri: str
    version: int
    dim: int
    n_cells: int
    """Cells of a super image to read; 0 for none."""

    @classmethod
    def of(cls, snapshot: Snapshot, *, cells: bool) -> "VideoRows":
        images = snapshot.images_dataset
        n_cells = snapshot.spec.frames_per_super_image if cells and snapshot.spec.cells else 0
        return cls(images.uri, images.version, snapshot.spec.embedding_dim, n_cells)


def load_here(plans: Sequence[pa.Table], source: VideoRows) -> Iterator[pa.Table]:
    """A `Read` one batch at a time."""
    return (load_videos(plan, source) for plan in plans)


def load_videos(plan: pa.Table, source: VideoRows) -> pa.Table:
    """`PLAN_SCHEMA` rows -> `VIDEO_SCHEMA` rows with their vectors; a stage."""
    columns = ["embedding", *(["n_valid", "cell_embeddings"] if source.n_cells else [])]
    numbers = plan["rows"].combine_chunks()
    flat = numbers.flatten() if not isinstance(numbers, pa.ChunkedArray) else pa.concat_arrays(numbers.chunks).flatten()
    with named(source.uri):
        rows = lance.dataset(source.uri, version=source.version).take(flat.to_pylist(), columns=columns)
    vectors = matrix(rows["embedding"], source.dim)
    cells = matrix(rows["cell_embeddings"], source.n_cells * source.dim) if source.n_cells else None
    filled = np.asarray(rows["n_valid"]) if source.n_cells else None
    out, start = [], 0
    for video, its_rows in zip(plan["video"].to_pylist(), plan["rows"].to_pylist(), strict=True):
        some = slice(start, start + len(its_rows))
        row = {"video": video, "n_images": len(its_rows), "images": vectors[some].tobytes(), "n_cells": 0, "cells": b""}
        if cells is not None and filled is not None:
            mine = cells[some].reshape(len(its_rows), source.n_cells, source.dim)
            mine = mine[np.arange(source.n_cells) < filled[some, None]]
            row |= {"n_cells": len(mine), "cells": mine.tobytes()}
        out.append(row)
        start = some.stop
    return pa.Table.from_pylist(out, schema=VIDEO_SCHEMA)


@dataclass(frozen=True)
class Pairs:
    """The pairs to train on. texts (Q, D) query embeddings; video (Q,) the number of each one's video; first, length
    and row: where the rows of video v are, as in `RowMap`."""

    texts: NDArray[np.float32]
    video: NDArray[np.int64]
    first: NDArray[np.int64]
    length: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, snapshot: Snapshot, queries: Sequence[Query], texts: NDArray[np.float32]) -> "Pairs":
        """queries must be of videos in the snapshot (`answerable`), texts (Q, D) their embeddings."""
        rows = snapshot.rows()
        place = numbered(rows.video_ids)
        video = np.array([place[query.video_id] for query in queries], dtype=np.int64)
        if len(set(video.tolist())) < 2:
            raise QueryError(
                f"the training queries are about {len(set(video.tolist()))} video: contrast needs 2 or more"
            )
        return cls(texts, video, rows.first, rows.length, rows.row)

    @property
    def n_videos(self) -> int:
        return len(np.unique(self.video))

    def batches(self, size: int, seed: int, epoch: int, *, rank: int = 0, world: int = 1) -> list[NDArray[np.int64]]:
        """The batches of one worker in an epoch: numbers of pairs. Every pair is in one batch of one worker, except
        that the last, short batch is left out, and that all workers get equally many batches."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.video))
        n = max(1, len(order) // (size * world))
        size = min(size, len(order) // (n * world))
        return [order[(i * world + rank) * size : (i * world + rank + 1) * size] for i in range(n)]

    def plan(self, pairs: NDArray[np.int64]) -> pa.Table:
        """What `load_videos` must read for a batch: each distinct video once."""
        videos = np.unique(self.video[pairs])
        rows = [self.row[ragged_rows(self.first[v : v + 1], self.length[v : v + 1])] for v in videos]
        return pa.table({"video": videos, "rows": rows}, schema=PLAN_SCHEMA)


def batches_of(data: Pairs, batches: Sequence[NDArray[np.int64]], read: Read) -> Iterator[Batch]:
    """The batches in order, each as soon as its videos are read."""
    plans = [data.plan(batch) for batch in batches]
    tables = iter(read(plans))
    waiting: list[pa.Table] = []
    for batch, plan in zip(batches, plans, strict=True):
        while sum(map(len, waiting)) < len(plan):
            table = next(tables, None)
            if table is None:
                raise QasirError(
                    f"{sum(map(len, waiting))} of a batch's {len(plan)} videos were read and no more came: started "
                    "again, the training goes on from its last epoch"
                )
            waiting.append(table)
        rows = pa.concat_tables(waiting)
        waiting = [rows.slice(len(plan))]
        yield collate(batch, data, rows.slice(0, len(plan)))


def collate(pairs: NDArray[np.int64], data: Pairs, videos: pa.Table) -> Batch:
    """Tensors of a batch from its `VIDEO_SCHEMA` rows, renormalised after their float16 storage."""
    place = {video: i for i, video in enumerate(videos["video"].to_pylist())}
    each = np.array([place[v] for v in data.video[pairs].tolist()])
    dim = data.texts.shape[1]
    images, image_padding = _padded(videos["images"].to_pylist(), dim)
    cells = cell_padding = None
    if sum(videos["n_cells"].to_pylist()):
        cells, cell_padding = _padded(videos["cells"].to_pylist(), dim)
        cells, cell_padding = cells[each], cell_padding[each]
    return Batch(
        texts=torch.from_numpy(data.texts[pairs]),
        images=images[each],
        image_padding=image_padding[each],
        video=torch.from_numpy(data.video[pairs]),
        cells=cells,
        cell_padding=cell_padding,
    )


def _padded(stored: list[bytes], dim: int) -> tuple[Tensor, Tensor]:
    """((n, longest, D) float32, (n, longest) true where padded) from float16 rows."""
    rows = [normalised(np.frombuffer(one, np.float16).reshape(-1, dim)) for one in stored]
    longest = max(1, *(len(one) for one in rows)) if rows else 1
    values = torch.zeros(len(rows), longest, dim)
    padding = torch.ones(len(rows), longest, dtype=torch.bool)
    for i, one in enumerate(rows):
        values[i, : len(one)] = torch.from_numpy(one)
        padding[i, : len(one)] = False
    return values, padding


def settled_batch_size(asked: int, n_pairs: int, world: int) -> int:
    """The batch size that the data allows. Raises QueryError when even 2 pairs a worker are too many."""
    if asked < 2:
        raise QueryError(f"batch size {asked}: contrast needs 2 pairs or more")
    most = n_pairs // world
    if most < 2:
        raise QueryError(f"{n_pairs} training queries are too few for {world} workers: contrast needs 2 each")
    if asked > most:
        log.warning("batch size %d is larger than the %d training queries a worker gets: using %d", asked, most, most)
    return min(asked, most)


def check_numbers(snapshot: Snapshot, *, cells: bool = False) -> None:
    """Raises UnreadableIndexError that names the first super image with a vector that is not finite."""
    columns = ["embedding", *(["cell_embeddings"] if cells and snapshot.spec.cells else [])]
    with named(snapshot.uri):
        for batch in snapshot.images_dataset.to_batches(columns=["video_id", "position", *columns]):
            for name in columns:
                _check_column(pa.Table.from_batches([batch]), name, snapshot.uri)


def _check_column(rows: pa.Table, name: str, uri: str) -> None:
    finite = finite_rows(rows, [name])
    if not finite.all():
        row = rows.select(["video_id", "position"]).slice(int(finite.argmin()), 1).to_pylist()[0]
        raise UnreadableIndexError(
            f"{uri}: super image {row['position']} of {row['video_id']} has a number in its {name} that is not finite "
            "(NaN or infinite): jobs/reindex_corpus.py --repair encodes the video again"
        )
