"""Trains with meta-optimised frames, the videos' clips decoded by Ray Data."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import TaskPoolStrategy

from pipelines.attempts import twice_at_most
from pipelines.cluster import connect, graph_settings, node_memory, total_cpus
from pipelines.workers import SUSPECT_CPUS, SUSPECT_MEMORY
from qasir.encoding.options import EncodeOptions
from qasir.training.epochs import OnEpoch
from qasir.training.mof import learn
from qasir.training.mof.clip_reading import Read, clip_task, read_alone
from qasir.training.mof.clips import failure, read_clips
from qasir.training.mof.material import Captioned
from qasir.training.mof.settings import MofSettings
from qasir.video.tile import Tiling
from qasir.vlm.model import Vlm

_READER_CPUS = 0.1
_ALONE_RETRIES = 2


def train_mof(
    vlm: Vlm, train: Captioned, validation: Captioned, settings: MofSettings, output: Path, *,
    on_epoch: OnEpoch = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """`qasir.training.mof.learn.train_mof`, its videos read by all CPUs there are."""
    return learn.train_mof(vlm, train, validation, settings, output, read=read_by_tasks, on_epoch=on_epoch)


def read_by_tasks(
    videos: Sequence[pa.Table],
    tiling: Tiling,
    n_frames: int,
    *,
    options: EncodeOptions = EncodeOptions(),
    read: Read = read_clips,
) -> Iterator[pa.Table]:
    """A `qasir.training.mof.clip_table.ReadClips` by as many tasks as there are CPUs, and one more. A video that does
    not come back, since its task hung or died, is looked at alone."""
    connect()
    waiting = {video_id: one.slice(row, 1) for one in videos for row, video_id in enumerate(_ids(one))}
    graph: Any
    with graph_settings(may_lose_blocks=True):  # what is lost stays in `waiting`
        graph = ray.data.from_arrow(list(videos)).map_batches(
            twice_at_most(read),
            fn_kwargs={
                "tiling": tiling,
                "n_frames": n_frames,
                "time_limit_s": options.decode_timeout_s,
                "memory_limit": options.decode_memory,
            },
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_READER_CPUS,
            compute=TaskPoolStrategy(size=int(total_cpus()) + 1),
        )
        for table in graph.iter_batches(batch_size=None, batch_format="pyarrow"):
            for video_id in _ids(table):
                waiting.pop(video_id, None)
            yield table
    task = clip_task(tiling, n_frames, options, read)
    memory = min(SUSPECT_MEMORY, node_memory())
    alone = ray.remote(num_cpus=SUSPECT_CPUS, memory=memory, max_retries=_ALONE_RETRIES)(read_alone)
    pending = {video_id: alone.remote(video, task) for video_id, video in waiting.items()}
    for video_id, ref in pending.items():
        try:
            yield ray.get(ref)
        except ray.exceptions.RayError as error:  # the watcher itself is lost, with its node or for memory
            yield failure(video_id, "io", f"the task that watches its decoder is lost: {type(error).__name__}")


def _ids(table: pa.Table) -> list[str]:
    return list(table["video_id"].to_pylist())
