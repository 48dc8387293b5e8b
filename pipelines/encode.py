"""Encodes a corpus into one or several indexes: plan -> cut -> decode and tile -> encode -> write -> commit."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from pipelines.alone import deaths
from pipelines.cluster import connect, hand_on, may_grow, node_cpus, total_cpus, total_gpus
from pipelines.workers import CUTTER_CPUS, DECODER_CPUS, WRITER_CPUS, Workers
from qasir.encoding.commit import Committer, Progress
from qasir.encoding.cut import SEGMENT_BYTES, SEGMENT_S, cut_videos
from qasir.encoding.decode import decode_segments
from qasir.encoding.encode import Encoder
from qasir.encoding.rows import Receipt, plan_table, whole_video
from qasir.encoding.throughput import Throughput
from qasir.encoding.write import write_rows
from qasir.errors import QasirError
from qasir.index.changes import compare
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.maintenance import DATA_TABLES, compact
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import Corpus, VideoFile
from qasir.vlm.flops import architecture_gflops
from qasir.vlm.model import VlmSource

log = logging.getLogger(__name__)

_PLAN_ROWS = 16
_BLOCK_BYTES = 4 << 20
_BLOCK_S, _BLOCKS_A_DECODER, _MOST_BLOCKS = 80, 16, 20_000
"""What decoders get at a time: a block costs about as much of a CPU as decoding ten seconds of video, so clips share one, as
long as there are enough blocks to go round."""


@dataclass(frozen=True)
class Target:
    """An index to write, and the model that encodes for it."""

    index: Index
    source: VlmSource


@dataclass(frozen=True)
class EncodeOptions:
    """How to encode, apart from what: none of these changes a row.

    decode_timeout_s: gives up on a video whose decoding makes no progress for so long; None waits for ever.
    gpus_per_encoder: None takes a GPU each where there are any; 0 encodes on CPUs.
    """

    allow_partial: bool = False
    commit_every_s: float = 30.0
    decode_timeout_s: float | None = 120.0
    segment_s: int = SEGMENT_S
    segment_bytes: int = SEGMENT_BYTES
    gpus_per_encoder: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. With several indexes a video counts once for each that needs it."""

    done: int
    planned: int
    super_images: int
    video_seconds: float
    seconds: float


OnProgress = Callable[[Snapshot], None]


@dataclass(frozen=True)
class EncodeSummary:
    """What a run did to one index. `super_images` and `video_seconds` are of the videos encoded in this run."""

    encoded: int
    failed: int
    unchanged: int
    super_images: int
    video_seconds: float
    seconds: float
    failures_by_kind: dict[str, int]
    throughput: dict[str, Any]


def encode_corpus(
    corpus: Corpus,
    targets: Sequence[Target],
    options: EncodeOptions | None = None,
    *,
    job: str = "encode_corpus",
    on_progress: OnProgress = lambda snapshot: None,
) -> list[EncodeSummary]:
    """Encode the new and changed videos of a corpus; a failed one is tried again only when its file changed.

    Nothing is removed. Each video is decoded once for all indexes. on_progress is called after every batch. Raises
    IndexHeldError if another job writes an index. Videos that cannot be read end as failed rows, never as an exception.
    """
    started = time.monotonic()
    with ExitStack() as held:
        runs = [held.enter_context(Run(target.index, job)) for target in targets]
        changes = [compare(corpus, target.index.states()) for target in targets]
        encoding = Encoding(targets, [c.todo for c in changes], options or EncodeOptions(), on_progress, runs)
        encoding.run()
        summaries = []
        for run, target, change, progress in zip(runs, targets, changes, encoding.progress, strict=True):
            compact(target.index, *DATA_TABLES)
            seconds = time.monotonic() - started
            throughput = encoding.throughput.facts()
            n_unchanged = len(corpus.videos) - len(change.todo)
            run.counts = {**asdict(progress), "unchanged": n_unchanged}
            run.seconds = {"total": seconds, **throughput}
            summaries.append(
                EncodeSummary(**asdict(progress), unchanged=n_unchanged, seconds=seconds, throughput=throughput)
            )
    return summaries


class Encoding:
    """One run of the stages over the videos that each index needs; `progress` (one an index) and `throughput` say how it went."""

    def __init__(
        self,
        targets: Sequence[Target],
        todo: Sequence[Sequence[VideoFile]],
        options: EncodeOptions,
        on_progress: OnProgress = lambda snapshot: None,
        runs: Sequence[Run] = (),
    ) -> None:
        self.targets = targets
        self.options = options
        self.throughput = Throughput()
        self._on_progress = on_progress
        self._runs = runs
        self._videos = {video.video_id: video for videos in todo for video in videos}
        self._committers = [
            Committer(target.index, {video.video_id: video.fingerprint for video in videos})
            for target, videos in zip(targets, todo, strict=True)
        ]

    @cached_property
    def _gflops(self) -> list[float]:
        return [architecture_gflops(target.source, target.index.spec.image_size) for target in self.targets]

    @property
    def progress(self) -> list[Progress]:
        return [committer.progress for committer in self._committers]

    def run(self) -> None:
        """Encode; then look alone at what did not come back, because a worker that died took its videos along.

        Only a video whose decoding, alone, kills its process or hangs is recorded as failed for it. What is lost otherwise
        is no fault of a file and is encoded again. Raises QasirError, with everything else committed, if it is lost twice.
        """
        if not self._videos:
            return
        connect()
        workers = Workers.for_cluster(
            total_cpus(), total_gpus(), node_cpus(), self.options.gpus_per_encoder, may_grow=may_grow()
        )
        self._pass(workers)
        missing = self._unfinished()
        if missing:
            log.warning("%d of %d videos did not come back; looking at each alone", len(missing), len(self._videos))
            self._give_up_on_killers(missing)
            if self._unfinished():
                self._pass(workers)
        self.throughput.ended = time.time()
        lost = self._unfinished()
        if lost:
            raise QasirError(
                f"{len(lost)} videos were lost after decoding, {lost[0].video_id} first: an encoder or a writer died; see "
                "Ray's logs. All others are committed, and the same command tries these again"
            )

    def _unfinished(self) -> list[VideoFile]:
        ids = {video_id for committer in self._committers for video_id in committer.unfinished()}
        return [video for video_id, video in self._videos.items() if video_id in ids]

    def _needs(self) -> dict[str, dict[int, list[int]]]:
        """video_id -> {index number: positions it has already} of the indexes that still want the video."""
        needs: dict[str, dict[int, list[int]]] = {}
        for number, committer in enumerate(self._committers):
            for video_id in committer.unfinished():
                needs.setdefault(video_id, {})[number] = committer.positions(video_id)
        return needs

    def _pass(self, workers: Workers) -> None:
        """Run the unfinished videos through the stages once, committing as receipts come in."""
        needs = self._needs()
        for committer in self._committers:
            committer.begin_pass(committer.unfinished())
        plan = plan_table([self._videos[video_id] for video_id in needs], needs)
        committed_at = time.monotonic()
        try:
            segments = _segments(plan, self.options, workers.decoders)
            images = [_n_images(segments, target.index.spec) for target in self.targets]
            fitted = workers.for_work(images, self._gflops)
            if not self.throughput.workers:  # a second pass, over what was lost, is small
                self.throughput.workers = {"decode": fitted.decoders, "encode": fitted.encoders}
            for receipt in _receipts(segments, self.targets, self.options, fitted):
                self._committers[receipt.index].add(receipt)
                self.throughput.add({**receipt.seconds, "decode": sum(report.seconds for report in receipt.reports)})
                if time.monotonic() - committed_at >= self.options.commit_every_s:
                    self._commit()
                    committed_at = time.monotonic()
                self._tell()
        finally:
            self._commit()
            self._tell()

    def _commit(self) -> None:
        since = time.perf_counter()
        for run in self._runs:
            run.check()
        for committer in self._committers:
            committer.commit()
        self.throughput.add({"commit": time.perf_counter() - since})

    def _tell(self) -> None:
        self._on_progress(
            Snapshot(
                done=sum(committer.n_finished for committer in self._committers),
                planned=sum(len(committer.planned) for committer in self._committers),
                super_images=sum(committer.n_written for committer in self._committers),
                video_seconds=sum(committer.progress.video_seconds for committer in self._committers),
                seconds=time.time() - self.throughput.began,
            )
        )

    def _give_up_on_killers(self, suspects: Sequence[VideoFile]) -> None:
        needs = self._needs()
        whole = plan_table(list(suspects), needs).to_pylist()
        calls = [(whole_video(row), [target.index.spec for target in self.targets]) for row in whole]
        options = {"allow_partial": self.options.allow_partial, "time_limit_s": self.options.decode_timeout_s}
        for video, death in zip(suspects, deaths(decode_segments, calls, options, num_cpus=DECODER_CPUS), strict=True):
            if death is not None:
                log.warning("%s: %s: %s", video.uri, death.kind, death.message)
                for number in needs[video.video_id]:
                    self._committers[number].give_up(video, death.kind, death.message)
        self._commit()


def _segments(plan: pa.Table, options: EncodeOptions, n_at_once: int) -> pa.Table:
    """The plan's videos cut into segments, by tasks of their own; what kills such a task shows when it is decoded.

    Only as many run as there are decoders, whose processes they become: Ray starts one for every task it is given that fits,
    and each costs a second of a CPU.
    """
    cut = ray.remote(num_cpus=CUTTER_CPUS, max_retries=1)(cut_videos)
    limits = {
        "segment_s": options.segment_s,
        "segment_bytes": options.segment_bytes,
        "time_limit_s": options.decode_timeout_s,
    }
    parts = [plan.slice(i, _PLAN_ROWS) for i in range(0, len(plan), _PLAN_ROWS)]
    running: list[Any] = []
    pending = []
    for part in parts:
        if len(running) >= n_at_once:
            _, running = ray.wait(running)
        running.append(cut.remote(part, **limits))
        pending.append(running[-1])
    tables = []
    for part, ref in zip(parts, pending, strict=True):
        try:
            tables.append(ray.get(ref))
        except ray.exceptions.RayError:
            tables += [whole_video(row) for row in part.to_pylist()]
    return pa.concat_tables(tables)


def _receipts(
    segments: pa.Table, targets: Sequence[Target], options: EncodeOptions, workers: Workers
) -> Iterator[Receipt]:
    """The graph. Raises QasirError when an encoder or a writer reports an error of its own."""
    warnings.filterwarnings("ignore", message="`ray_remote_args_fn` is deprecated")  # no other way to bound retries yet
    decode: Any = decode_segments
    write: Any = write_rows
    specs = [target.index.spec for target in targets]
    hand_on(max(_BLOCK_BYTES, workers.batch * max(3 * spec.image_size**2 for spec in specs)))
    n_together = _n_together(segments, workers.decoders)
    receipts = (
        ray.data.from_arrow([segments.slice(i, n_together) for i in range(0, len(segments), n_together)])
        .map_batches(
            decode,
            fn_kwargs={
                "specs": specs,
                "allow_partial": options.allow_partial,
                "time_limit_s": options.decode_timeout_s,
            },
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=DECODER_CPUS,
            compute=TaskPoolStrategy(size=workers.decoders),
            ray_remote_args_fn=_retry_once,
        )
        .map_batches(
            Encoder,
            fn_constructor_kwargs={
                "targets": [(target.source, target.index.spec) for target in targets],
                "threads": workers.threads,
            },
            batch_size=workers.batch,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=workers.encoders, initial_size=workers.first_encoders),
            num_cpus=workers.encoder_cpus,
            num_gpus=workers.encoder_gpus,
        )
        .map_batches(
            write,
            fn_kwargs={"indexes": [target.index for target in targets]},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=WRITER_CPUS,
        )
    )
    # Nothing is fetched ahead, or a receipt would lie about until the next one is there.
    batches: Any = receipts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        for row in batch.to_pylist():
            yield Receipt.parse(row)


def _n_together(segments: pa.Table, n_decoders: int) -> int:
    """How many segments a block holds. Few, since a worker that dies takes its block along, to be looked at one by one."""
    each_s = max(1e-3, _stated_s(segments) / len(segments))
    to_go_round = len(segments) // (_BLOCKS_A_DECODER * n_decoders)
    return max(1, -(-len(segments) // _MOST_BLOCKS), min(int(_BLOCK_S / each_s), to_go_round))


def _stated_s(segments: pa.Table) -> float:
    """Seconds of video as far as the headers say."""
    return pc.sum(pc.divide(segments["stated_s"], segments["n_segments"])).as_py() or 0.0


def _n_images(segments: pa.Table, spec: EncoderSpec) -> float:
    """About how many super images there are to encode; one a segment at least."""
    return max(len(segments), _stated_s(segments) * spec.fps / spec.frames_per_super_image)


def _retry_once() -> dict[str, int]:
    """Ray's default retries a task whose worker dies without end."""
    return {"max_retries": 1}
