"""Trains with meta-optimised frames, the videos' clips decoded by Ray Data."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import TaskPoolStrategy

from pipelines.cluster import connect, graph_settings, total_cpus
from qasir.training.epochs import OnEpoch
from qasir.training.mof import learn
from qasir.training.mof.clips import read_clips
from qasir.training.mof.material import Captioned
from qasir.training.mof.mof_training import MofSettings
from qasir.video.tile import Tiling
from qasir.vlm.model import Vlm

_READER_CPUS = 0.1


def train_mof(
    vlm: Vlm, train: Captioned, validation: Captioned, settings: MofSettings, output: Path, *,
    on_epoch: OnEpoch = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """`qasir.training.mof.learn.train_mof`, its videos read by all CPUs there are."""
    return learn.train_mof(vlm, train, validation, settings, output, read=read_by_tasks, on_epoch=on_epoch)


def read_by_tasks(videos: Sequence[pa.Table], tiling: Tiling, n_frames: int) -> Iterator[Any]:
    """A `qasir.training.mof.clip_table.ReadClips` by as many tasks as there are CPUs, and one more."""
    connect()
    read: Any = read_clips
    with graph_settings(may_lose_blocks=True):
        tables: Any = (
            ray.data.from_arrow(list(videos))
            .map_batches(
                read,
                fn_kwargs={"tiling": tiling, "n_frames": n_frames},
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=_READER_CPUS,
                compute=TaskPoolStrategy(size=int(total_cpus()) + 1),
            )
            .iter_batches(batch_size=None, batch_format="pyarrow")
        )
        yield from tables
