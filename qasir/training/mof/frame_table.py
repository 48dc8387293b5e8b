"""What MOF learns, as a Lance table keyed by video of which a batch at a time is in memory: the compressed frames in
normalised pixels, with Adam's two moments, and the frames that they started from, float32.

A pass over the videos writes the table anew, fragment by fragment, and commits once at its end; older versions are then
dropped, so that what is on disk stays as large. A gradient needs no column: in a pass every video is in one batch, so
that its step can be taken as soon as its gradient is known, and equals one step on what the pass gathered.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from lance.fragment import FragmentMetadata, write_fragments
from torch import Tensor

from qasir.errors import UnreadableIndexError
from qasir.training.mof.tables import SHAPE, opened, overwrite

FRAMES_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        *(pa.field(name, pa.large_binary(), nullable=False) for name in ("start", "frames", "mean", "square")),
        pa.field("steps", pa.int32(), nullable=False),
    ]
)
_BETAS, _EPSILON = (0.5, 0.999), 1e-8


@dataclass
class FrameBatch:
    """Compressed frames of some videos (B, K, 3, S, S), where they started, Adam's moments, and the steps taken
    (B,)."""

    video_ids: list[str]
    start: Tensor
    frames: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def step(self, gradient: Tensor, lr: float) -> None:
        """One step of Adam (betas 0.5 and 0.999) on every video."""
        self.steps = self.steps + 1
        shape = (-1, 1, 1, 1, 1)
        self.mean = _BETAS[0] * self.mean + (1 - _BETAS[0]) * gradient
        self.square = _BETAS[1] * self.square + (1 - _BETAS[1]) * gradient.square()
        mean = self.mean / (1 - _BETAS[0] ** self.steps.view(shape))
        square = self.square / (1 - _BETAS[1] ** self.steps.view(shape))
        self.frames = self.frames - lr * mean / (square.sqrt() + _EPSILON)

    @property
    def displacement(self) -> Tensor:
        """(B,) mean absolute difference from the start, in normalised pixels."""
        return (self.frames - self.start).abs().flatten(1).mean(dim=1)


class FrameTable:
    """The compressed frames of a corpus at one version. shape: (K, 3, S, S)."""

    def __init__(self, uri: str, version: int | None = None) -> None:
        self.uri = uri
        self._dataset = opened(uri, version)
        self.shape = tuple(json.loads((self._dataset.schema.metadata or {})[SHAPE]))
        self._row = {
            video_id: row
            for row, video_id in enumerate(self._dataset.to_table(columns=["video_id"])["video_id"].to_pylist())
        }

    @property
    def version(self) -> int:
        return int(self._dataset.version)

    @property
    def video_ids(self) -> list[str]:
        return list(self._row)

    @classmethod
    def start(cls, uri: str, batches: Iterable[tuple[Sequence[str], Tensor]]) -> "FrameTable":
        """A table whose frames are those given, (B, K, 3, S, S) a batch."""

        def fresh() -> Iterator[FrameBatch]:
            for ids, frames in batches:
                nothing = torch.zeros_like(frames)
                yield FrameBatch(list(ids), frames, frames, nothing, nothing, torch.zeros(len(ids), dtype=torch.int32))

        return cls._written(uri, fresh())

    def load(self, video_ids: Sequence[str]) -> FrameBatch:
        rows = self._dataset.take([self._row[video_id] for video_id in video_ids])
        values = {
            name: torch.from_numpy(
                np.frombuffer(b"".join(rows[name].to_pylist()), np.float32).reshape(len(rows), *self.shape).copy()
            )
            for name in ("start", "frames", "mean", "square")
        }
        steps = torch.from_numpy(rows["steps"].to_numpy().copy())
        return FrameBatch(rows["video_id"].to_pylist(), **values, steps=steps)

    def rewritten(self, batches: Iterable[FrameBatch]) -> "FrameTable":
        """The table with every video's new state, as a new version. Nothing changes until the last batch is written."""
        new = self._written(self.uri, batches)
        if len(new.video_ids) != len(self.video_ids):
            raise UnreadableIndexError(f"{self.uri}: a pass wrote {len(new.video_ids)} of {len(self.video_ids)} videos")
        return new

    def forget_older(self) -> None:
        """Drop the versions before this one, and what a killed pass left behind."""
        self._dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)

    @classmethod
    def _written(cls, uri: str, batches: Iterable[FrameBatch]) -> "FrameTable":
        fragments: list[FragmentMetadata] = []
        schema = FRAMES_SCHEMA
        for batch in batches:
            shape = json.dumps(list(batch.frames.shape[1:])).encode()
            schema = FRAMES_SCHEMA.with_metadata({SHAPE: shape})
            fragments += write_fragments(_table(batch, schema), uri, schema=schema)
        overwrite(uri, schema, fragments)
        return cls(uri)


def _table(batch: FrameBatch, schema: pa.Schema) -> pa.Table:
    columns: dict[str, Any] = {"video_id": batch.video_ids, "steps": batch.steps.numpy()}
    for name in ("start", "frames", "mean", "square"):
        columns[name] = [one.contiguous().numpy().tobytes() for one in getattr(batch, name)]
    return pa.table(columns, schema=schema)
