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
from qasir.errors import QasirError
from qasir.index import Index
from qasir.runs import Run
from qasir.spec import EncoderSpec
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
    """Encode; then try alone what did not come back, because a worker that died took its videos along.

    Only a video whose decoding, alone, kills its process is recorded as crashed. What is lost otherwise is no fault of a
    file: a QasirError ends the job with everything else committed, and the next run tries again.
    """
    names = [video.video_id for video in todo]
    missing = _pass(todo, committer, index, source, allow_partial, commit_every_s, on_progress, len(todo))
    if missing:
        log.warning("%d of %d videos did not come back; trying them one at a time", len(missing), len(todo))
        crashed = [video for video in missing if _kills_its_process(video, index.spec, allow_partial)]
        for video in crashed:
            message = "the process that decodes it dies"
            committer.add_report(Report(**asdict(video), status=FAILED, error_kind="crashed", error=message))
        committer.commit()
        others = [video for video in missing if committer.unfinished([video.video_id])]
        if others:
            _pass(others, committer, index, source, allow_partial, commit_every_s, on_progress, len(todo))
    lost = committer.unfinished(names)
    if lost:
        raise QasirError(
            f"{len(lost)} videos were lost after decoding, {lost[0]} first: an encoder or a writer died; see Ray's logs. "
            "All others are committed, and the same command tries these again"
        )


def _pass(
    videos: list[VideoFile],
    committer: Committer,
    index: Index,
    source: VlmSource,
    allow_partial: bool,
    commit_every_s: float,
    on_progress: Callable[[int, int], None],
    n_planned: int,
) -> list[VideoFile]:
    """Run videos through the stages, committing as receipts come in; returns those that did not come back."""
    plan = plan_table(videos, committer.positions({video.video_id for video in videos}))
    committed_at = time.monotonic()
    try:
        for receipt in _receipts(plan, index, source, allow_partial):
            committer.add(receipt)
            if time.monotonic() - committed_at >= commit_every_s:
                committer.commit()
                committed_at = time.monotonic()
            on_progress(committer.n_finished, n_planned)
    finally:
        committer.commit()
        on_progress(committer.n_finished, n_planned)
    missing = set(committer.unfinished([video.video_id for video in videos]))
    return [video for video in videos if video.video_id in missing]


def _kills_its_process(video: VideoFile, spec: EncoderSpec, allow_partial: bool) -> bool:
    """Decode one video in a worker of its own."""
    exhaust = ray.remote(max_retries=0, num_cpus=_DECODER_CPUS)(_exhaust)
    try:
        ray.get(exhaust.remote(decode_videos, plan_table([video], {}), spec, allow_partial))
    except ray.exceptions.WorkerCrashedError:
        return True
    return False


def _exhaust(decode: Any, plan: pa.Table, spec: EncoderSpec, allow_partial: bool) -> None:
    for _ in decode(plan, spec, allow_partial=allow_partial):
        pass


def _receipts(plan: pa.Table, index: Index, source: VlmSource, allow_partial: bool) -> Iterator[Receipt]:
    """The graph. Raises QasirError when an encoder or a writer reports an error of its own."""
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
            compute=TaskPoolStrategy(size=workers.decoders),
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
