"""Encodes a corpus into one or several indexes on Ray Data: cut -> decode and tile -> encode -> write, then commit."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from pipelines.attempts import twice_at_most
from pipelines.cluster import (
    check_gpus,
    connect,
    graph_settings,
    grows,
    grows_untold,
    node_cpus,
    node_memory,
    present,
    total_cpus,
    total_gpus,
)
from pipelines.decoding import ReportQueue, decode_and_report
from pipelines.encoding import EncoderActor
from pipelines.growth import UNTOLD
from pipelines.probe import Probe
from pipelines.workers import (
    CUTTER_CPUS,
    SUSPECT_CPUS,
    SUSPECT_MEMORY,
    WRITER_CPUS,
    Workers,
    most_decoders,
)
from qasir.encoding.bounds import Capacity
from qasir.encoding.child import Decode, Task, on_cpu
from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import decode_segments
from qasir.encoding.models import GPU_CALLS, Target, gflops_an_image
from qasir.encoding.options import EncodeOptions
from qasir.encoding.receipts import Receipt, Resized, written_of
from qasir.encoding.rows import whole_video
from qasir.encoding.run import EncodeSummary, OnProgress, ignore, run_encoding
from qasir.encoding.watched import Death, death_of
from qasir.encoding.write import write_rows
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import Corpus
from qasir.video.hardware import CPU, CUDA

_PLAN_ROWS = 16
_BLOCK_BYTES = 4 << 20
_BLOCK_S, _BLOCKS_A_DECODER, _MOST_BLOCKS = 160, 16, 20_000
"""What decoders get at a time: a block costs about as much of a CPU as decoding ten seconds of video, so clips share
one, as long as there are enough blocks to go round."""


def encode_corpus(
    corpus: Corpus,
    targets: Sequence[Target],
    options: EncodeOptions | None = None,
    *,
    gpus_per_encoder: float | None = None,
    job: str = "encode_corpus",
    on_progress: OnProgress = ignore,
) -> list[EncodeSummary]:
    """`qasir.encoding.run.run_encoding` on Ray. gpus_per_encoder: as `Workers.for_cluster` takes it."""
    options = options or EncodeOptions()
    check_gpus(options.decoder)
    stages = RayStages(targets, options, gpus_per_encoder)
    indexes = [target.index for target in targets]
    return run_encoding(corpus, indexes, stages, options, job=job, on_progress=on_progress)


def cluster_workers(gpus_per_encoder: float | None, decoder: str) -> Workers:
    """As many as the cluster that this process is connected to takes. gpus_per_encoder: as `Workers.for_cluster` takes
    it; decoder: as `EncodeOptions` has it."""
    gpus, untold_gpus = total_gpus(), UNTOLD["GPU"] if grows_untold() else 0.0
    return Workers.for_cluster(
        total_cpus(), gpus, node_cpus(), gpus_per_encoder, grows=grows(), untold_gpus=untold_gpus
    ).decoding_with(decoder, max(gpus, untold_gpus))


class RayStages:
    """`qasir.encoding.stages.Stages` on Ray Data, with as many workers as the cluster has or may get."""

    def __init__(
        self,
        targets: Sequence[Target],
        options: EncodeOptions,
        gpus_per_encoder: float | None = None,
        *,
        decode: Decode = decode_segments,
    ) -> None:
        self.capacity: Capacity | None = None
        self._targets = targets
        self._specs = [target.index.spec for target in targets]
        self._options = options
        self._gpus_per_encoder = gpus_per_encoder
        self._decode = decode

    @cached_property
    def _gflops(self) -> list[float]:
        return gflops_an_image(self._targets)

    def run(self, plan: pa.Table) -> Generator[Receipt | Resized, None, None]:
        connect()
        cpus, decoder = total_cpus(), self._options.decoder
        cluster = cluster_workers(self._gpus_per_encoder, decoder)
        segments = _segments(plan, self._specs, self._options, cluster.decoders)
        images = [_n_images(segments, spec) for spec in self._specs]
        workers = cluster.for_work(images, self._gflops)
        limits = replace(cluster, batch=workers.batch)
        most = cluster.decoders if decoder == CUDA else most_decoders(cpus, present("memory"))
        n_tasks = len(segments) // segments_a_block(segments, workers.decoders)
        probe = Probe(workers, limits, cpus=cpus, decoders=most, n_images=sum(images), n_tasks=n_tasks)
        reports = ReportQueue()
        try:
            yield from self._through(segments, workers, reports, probe)
            if probe.wanted is not None and len(rest := probe.rest(segments)):
                yield Resized(probe.capacity)
                reports.go_on(True)
                yield from self._through(rest, probe.wanted, reports)
        finally:
            reports.close()

    def _through(
        self, segments: pa.Table, workers: Workers, reports: ReportQueue, probe: Probe | None = None
    ) -> Generator[Receipt, None, None]:
        """These segments through a graph with these workers; no more of them than the probe has decoded when it knows
        better."""
        self.capacity = workers.capacity(total_cpus())
        block_bytes = max(_BLOCK_BYTES, workers.batch * max(3 * spec.image_size**2 for spec in self._specs))
        # A lost block must not end a night's run: what is missing afterwards is found by comparing with the plan.
        with graph_settings(block_bytes=block_bytes, may_lose_blocks=True):
            graph: Any = self._graph(segments, workers, reports)
            # Nothing is fetched ahead, or a receipt would lie about until the next one is there.
            for rows in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                receipts: list[Receipt] = [*reports.told(), *written_of(rows)]
                yield from receipts
                if probe is not None and probe.knows_better(receipts):
                    reports.go_on(False)
        # A cluster that grows has had this many, and not all that it may have.
        self.capacity = workers.capacity(present("CPU"), present("GPU"))
        receipts = [*reports.told()]
        yield from receipts
        if probe is not None:
            probe.knows_better(receipts)

    def _graph(self, segments: pa.Table, workers: Workers, reports: ReportQueue) -> ray.data.Dataset:
        n_together = segments_a_block(segments, workers.decoders)
        return (
            ray.data.from_arrow([segments.slice(i, n_together) for i in range(0, len(segments), n_together)])
            .map_batches(
                twice_at_most(decode_and_report),
                fn_kwargs={
                    "decode": self._decode,
                    "queue": reports,
                    "specs": self._specs,
                    **self._decode_limits(workers),
                },
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=workers.decoder_cpus,
                compute=TaskPoolStrategy(size=workers.decoders),
            )
            .map_batches(
                EncoderActor,
                fn_constructor_kwargs={
                    "sources": [target.source for target in self._targets],
                    "specs": self._specs,
                    "threads": workers.threads,
                },
                batch_size=workers.batch,
                batch_format="pyarrow",
                compute=encoder_pool(workers),
                num_cpus=workers.encoder_cpus,
                num_gpus=workers.encoder_gpus,
            )
            .map_batches(
                twice_at_most(write_rows),
                fn_kwargs={"indexes": [target.index for target in self._targets]},
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=WRITER_CPUS,
            )
        )

    def _decode_limits(self, workers: Workers) -> dict[str, Any]:
        limits = self._options.decode_limits
        return {**limits, "decoder": CPU} if limits["decoder"] == "auto" and not workers.encoder_gpus else limits

    def alone(self, segments: Sequence[pa.Table]) -> list[Death | None]:
        """As `Stages.alone`; each with a CPU and memory of its own, so that what the others take ends none of them."""
        memory = min(SUSPECT_MEMORY, node_memory())
        task = ray.remote(num_cpus=SUSPECT_CPUS, memory=memory, max_retries=2)(death_of)
        how = on_cpu(Task(self._decode, self._specs, self._options))
        self._options = how.options
        results: list[Death | None] = []
        for ref in _a_few_at_once(segments, lambda each: task.remote(each, how), int(total_cpus())):
            try:
                results.append(ray.get(ref))
            except ray.exceptions.RayError:  # the watcher itself was lost, with its node say: no fault of the video's
                results.append(None)
        return results


def encoder_pool(workers: Workers) -> ActorPoolStrategy:
    """On a GPU with several batches under way in each, since it would stand still between two calls."""
    calls = GPU_CALLS if workers.encoder_gpus else 1
    return ActorPoolStrategy(
        min_size=1, max_size=workers.encoders, initial_size=workers.first_encoders,
        max_concurrent_calls_per_actor=calls, enable_true_multi_threading=calls > 1,
    )  # fmt: skip


def _segments(plan: pa.Table, specs: Sequence[EncoderSpec], options: EncodeOptions, n_at_once: int) -> pa.Table:
    """The plan's videos cut into segments, by tasks of their own; what kills such a task shows when it is decoded.

    Only as many run as there are decoders, whose processes they become: Ray starts one for every task it is given that
    fits, and each costs a second of a CPU.
    """
    cut = ray.remote(num_cpus=CUTTER_CPUS, max_retries=1)(cut_videos)
    limits = {"specs": specs, **options.cut_limits}
    parts = [plan.slice(i, _PLAN_ROWS) for i in range(0, len(plan), _PLAN_ROWS)]
    tables = []
    for part, ref in zip(parts, _a_few_at_once(parts, lambda part: cut.remote(part, **limits), n_at_once), strict=True):
        try:
            tables.append(ray.get(ref))
        except ray.exceptions.RayError:
            tables += [whole_video(row) for row in part.to_pylist()]
    return pa.concat_tables(tables)


def _a_few_at_once(parts: Sequence[pa.Table], start: Callable[[pa.Table], Any], most: int) -> list[Any]:
    """Start a task for each part, no more than `most` at a time; references to what they return."""
    running: list[Any] = []
    started = []
    for rows in parts:
        if len(running) >= most:
            _, running = ray.wait(running)
        running.append(start(rows))
        started.append(running[-1])
    return started


def segments_a_block(segments: pa.Table, n_decoders: int) -> int:
    """How many segments a block holds. Few, since a worker that dies takes its block along, to be looked at one by
    one."""
    each_s = max(1e-3, _stated_s(segments) / len(segments))
    to_go_round = len(segments) // (_BLOCKS_A_DECODER * n_decoders)
    return max(1, -(-len(segments) // _MOST_BLOCKS), min(int(_BLOCK_S / each_s), to_go_round))


def _stated_s(segments: pa.Table) -> float:
    """Seconds of video as far as the headers say."""
    return pc.sum(pc.divide(segments["stated_s"], segments["n_segments"])).as_py() or 0.0


def _n_images(segments: pa.Table, spec: EncoderSpec) -> float:
    """About how many super images there are to encode; one a segment at least."""
    return max(len(segments), _stated_s(segments) * spec.fps / spec.frames_per_super_image)
