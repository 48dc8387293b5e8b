"""Encodes a corpus into an index: plan -> decode and tile -> encode -> write -> commit."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from pipelines.cluster import connect, total_cpus, total_gpus
from qasir.commit import Committer
from qasir.corpus import Corpus, VideoFile
from qasir.index import Index
from qasir.runs import Run
from qasir.stages.decode import decode_videos
from qasir.stages.encode import Encoder
from qasir.stages.rows import Receipt, Report, plan_table
from qasir.stages.write import write_rows
from qasir.tables import FAILED
from qasir.vlm import VlmSource

log = logging.getLogger(__name__)

COMMIT_EVERY_S = 30.0
_CPU_BATCH, _GPU_BATCH = 16, 128
_MOST_THREADS = 8
_DECODER_CPUS, _WRITER_CPUS = 0.4, 0.1


@dataclass(frozen=True)
class EncodeSummary:
    """What a run did. `super_images` and `video_seconds` are of the videos encoded in this run."""

    encoded: int
    failed: int
    unchanged: int
    super_images: int
    video_seconds: float
    seconds: float
    failures_by_kind: dict[str, int]


@dataclass(frozen=True)
class Workers:
    """How a cluster's CPUs and GPUs are shared. On CPUs, fractions let decoders and encoders overlap on few cores."""

    encoders: int
    encoder_cpus: float
    encoder_gpus: float
    threads: int
    decoders: int
    batch: int

    @classmethod
    def for_cluster(cls, cpus: float, gpus: float) -> "Workers":
        if gpus >= 1:
            return cls(
                int(gpus), 1.0, 1.0, threads=1, decoders=max(1, int((cpus - gpus) / _DECODER_CPUS)), batch=_GPU_BATCH
            )
        threads = max(1, min(_MOST_THREADS, int(cpus)))
        encoders = max(1, int(cpus) // threads)
        return cls(encoders, 0.5 * threads, 0.0, threads=threads, decoders=max(1, int(cpus)), batch=_CPU_BATCH)


def encode_corpus(
    corpus: Corpus,
    index: Index,
    source: VlmSource,
    *,
    job: str = "encode_corpus",
    allow_partial: bool = False,
    commit_every_s: float = COMMIT_EVERY_S,
    on_progress: Callable[[int, int], None] = lambda done, planned: None,
) -> EncodeSummary:
    """Encode the new and changed videos of a corpus; a failed one is tried again only when its file changed.

    on_progress(done, planned) is called after every commit and batch. Raises IndexHeldError if another job writes the
    index. Videos that cannot be read end as failed rows, never as an exception.
    """
    started = time.monotonic()
    with Run(index, job) as run:
        states = index.states()
        todo = [v for v in corpus.videos if v.video_id not in states or states[v.video_id].fingerprint != v.fingerprint]
        unchanged = len(corpus.videos) - len(todo)
        committer = Committer(index, {video.video_id: video.fingerprint for video in todo})
        if todo:
            connect()
            _run(todo, committer, index, source, allow_partial, commit_every_s, on_progress)
        index.compact()
        progress = committer.progress
        run.counts = {**asdict(progress), "unchanged": unchanged}
        run.seconds = {"total": time.monotonic() - started}
    return EncodeSummary(
        encoded=progress.encoded,
        failed=progress.failed,
        unchanged=unchanged,
        super_images=progress.super_images,
        video_seconds=progress.video_seconds,
        seconds=time.monotonic() - started,
        failures_by_kind=progress.failures_by_kind,
    )


def _run(
    todo: list[VideoFile],
    committer: Committer,
    index: Index,
    source: VlmSource,
    allow_partial: bool,
    commit_every_s: float,
    on_progress: Callable[[int, int], None],
) -> None:
    """Two passes: what the first one lost (a worker that died took it along) is tried alone, then recorded as crashed."""
    names = [video.video_id for video in todo]
    for alone in (False, True):
        missing = set(committer.unfinished(names))
        if not missing:
            return
        if alone:
            log.warning("%d videos did not come back; trying them one at a time", len(missing))
        videos = [video for video in todo if video.video_id in missing]
        plan = plan_table(videos, committer.positions(missing))
        committed_at = time.monotonic()
        for receipt in _receipts(plan, index, source, allow_partial, alone=alone):
            committer.add(receipt)
            if time.monotonic() - committed_at >= commit_every_s:
                committer.commit()
                committed_at = time.monotonic()
            on_progress(len(names) - len(committer.unfinished(names)), len(names))
        committer.commit()
        on_progress(len(names) - len(committer.unfinished(names)), len(names))
    for video in todo:
        if committer.unfinished([video.video_id]):
            message = "the process that decoded it died, twice"
            committer.add_report(Report(**asdict(video), status=FAILED, error_kind="crashed", error=message))
    committer.commit()


def _receipts(
    plan: pa.Table, index: Index, source: VlmSource, allow_partial: bool, *, alone: bool
) -> Iterator[Receipt]:
    workers = Workers.for_cluster(total_cpus(), total_gpus())
    warnings.filterwarnings("ignore", message="`ray_remote_args_fn` is deprecated")  # no other way to bound retries yet
    decode: Any = decode_videos  # Ray's types know functions of one argument only
    write: Any = write_rows
    videos = ray.data.from_arrow([plan.slice(i, 1) for i in range(len(plan))])
    receipts = (
        videos.map_batches(
            decode,
            fn_kwargs={"spec": index.spec, "allow_partial": allow_partial},
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_DECODER_CPUS,
            compute=TaskPoolStrategy(size=1 if alone else workers.decoders),
            ray_remote_args_fn=_retry_once,
        )
        .map_batches(
            Encoder,
            fn_constructor_kwargs={"source": source, "spec": index.spec, "threads": workers.threads},
            batch_size=workers.batch,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers.encoders),
            num_cpus=workers.encoder_cpus,
            num_gpus=workers.encoder_gpus,
        )
        .map_batches(
            write,
            fn_kwargs={"index": index},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=_WRITER_CPUS,
        )
    )
    for row in receipts.iter_rows():
        yield Receipt.parse(row)


def _retry_once() -> dict[str, int]:
    """Ray's default retries a task whose worker dies without end."""
    return {"max_retries": 1}
