"""Estimates what encoding a corpus will take: in tasks and actors of the cluster that it will run on, or, where that is
this machine, in children of this process, for which no Ray is started."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any

import ray
import torch

from pipelines.cluster import check_gpus, connect, encoder_device, total_cpus
from pipelines.encode import cluster_workers
from pipelines.local_ray import is_here
from pipelines.workers import SUSPECT_CPUS, Workers
from qasir.encoding.bounds import Capacity
from qasir.encoding.estimate import Estimate, estimate
from qasir.encoding.measure_encoding import time_encoding
from qasir.encoding.models import GPU_CALLS, Target, gflops_an_image
from qasir.encoding.options import EncodeOptions
from qasir.encoding.watched_calls import Answer, Function, WatchedCalls
from qasir.errors import QasirError
from qasir.video.corpus import Corpus
from qasir.video.hardware import check_gpus_here

log = logging.getLogger(__name__)

_BUSY = 0.75
_MODELS_S = 4.0
_MOST_CHILDREN = 32
_END_S = 2.0
"""To end a run."""
_NODES_S = 900.0
"""How long to wait for the first node of a cluster that grows."""


def device_without_starting(gpus_per_encoder: float | None) -> str:
    """As `pipelines.cluster.encoder_device`, without starting Ray."""
    if gpus_per_encoder is None and is_here():
        return "cuda" if torch.cuda.is_available() else "cpu"
    return encoder_device(gpus_per_encoder)


def estimate_corpus(
    corpus: Corpus,
    targets: Sequence[Target],
    options: EncodeOptions,
    *,
    gpus_per_encoder: float | None = None,
    before_s: float = 0.0,
) -> Estimate:
    """`qasir.encoding.estimate.estimate` on the cluster that RAY_ADDRESS names, else on this machine. before_s: how
    long a run takes until it has listed the corpus and prepared the indexes."""
    place: _Here | _Cluster
    place = (_Here if is_here() else _Cluster)(targets, gpus_per_encoder, options.decoder)
    with place.calls as calls:
        return estimate(
            corpus, targets, options, calls, time_models=place.time_models, sizes=place.sizes,
            beside_s=before_s * (1 + place.starts_ray) + _END_S,
        )  # fmt: skip


class _Place:
    """Where a run would work, and how many workers it would get there. `time_models` is what
    `qasir.encoding.estimate.estimate` takes."""

    def __init__(self, targets: Sequence[Target], workers: Workers, cpus: float) -> None:
        self._targets = targets
        self._workers = workers
        self._cpus = cpus

    @cached_property
    def _gflops(self) -> list[float]:
        return gflops_an_image(self._targets)

    def _sized(self, images: Sequence[float]) -> Workers:
        return self._workers.for_work([max(1.0, n) for n in images], self._gflops)

    def sizes(self, images: Sequence[float]) -> Capacity:
        return self._sized(images).capacity(self._cpus)

    def _function(self, images: Sequence[float]) -> Function:
        workers = self._sized(images)
        sources = [target.source for target in self._targets]
        specs = [target.index.spec for target in self._targets]
        return partial(
            time_encoding,
            sources,
            specs,
            batch=workers.batch,
            threads=workers.threads,
            under_way=GPU_CALLS if workers.encoder_gpus else 1,
            most_s=_MODELS_S,
        )


class _Here(_Place):
    """This machine. starts_ray: what starting and ending a Ray of its own takes, over what a run takes until it has
    imported what it works with, which tells how fast the machine is."""

    starts_ray = 0.75

    def __init__(self, targets: Sequence[Target], gpus_per_encoder: float | None, decoder: str) -> None:
        check_gpus_here(decoder)
        cpus = float(ray._private.utils.get_num_cpus())
        gpus = float(torch.cuda.device_count())
        workers = Workers.for_cluster(cpus, gpus, cpus, gpus_per_encoder).decoding_with(decoder, gpus)
        super().__init__(targets, workers, cpus)
        self.calls = WatchedCalls(min(_MOST_CHILDREN, int(cpus)))
        load = os.getloadavg()[0]
        if load > _BUSY * cpus:
            log.warning(
                "this machine is busy (load %.1f on %g CPUs), and the estimate is for one that is not: a run takes "
                "longer as long as that lasts", load, cpus,
            )  # fmt: skip

    def time_models(self, images: Sequence[float]) -> Callable[[], Answer]:
        return self.calls.beside(self._function(images))


class _Cluster(_Place):
    """The cluster that RAY_ADDRESS names, which is there."""

    starts_ray = 0.0

    def __init__(self, targets: Sequence[Target], gpus_per_encoder: float | None, decoder: str) -> None:
        check_gpus(decoder)
        connect()
        super().__init__(targets, cluster_workers(gpus_per_encoder, decoder), total_cpus())
        self.calls = nullcontext(_RayCalls(int(self._cpus)))

    def time_models(self, images: Sequence[float]) -> Callable[[], Answer]:
        workers = self._sized(images)
        task = ray.remote(num_cpus=workers.encoder_cpus, num_gpus=workers.encoder_gpus, max_retries=0)(_called)
        ref = task.remote(self._function(images))

        def answer() -> Answer:
            try:
                found: list[Any] = ray.get(ref, timeout=_NODES_S)
            except ray.exceptions.GetTimeoutError:
                raise QasirError(f"no node of the cluster could time the models in {_NODES_S:.0f} s") from None
            except ray.exceptions.RayError:
                return None
            return found

        return answer


class _RayCalls:
    """`Calls` as tasks of a cluster, n at a time."""

    def __init__(self, n: int) -> None:
        self._n = max(1, n)
        self._task = ray.remote(num_cpus=SUSPECT_CPUS, max_retries=0)(_called)

    def each(self, functions: Iterable[Function], *, begin_s: float, end_s: float) -> Iterator[tuple[int, Answer]]:
        waiting = enumerate(functions)
        running: dict[Any, int] = {}
        began: float | None = None
        asked_at = time.monotonic()
        while True:
            while len(running) < self._n and (began is None or time.monotonic() < began + begin_s):
                number, function = next(waiting, (None, None))
                if function is None or number is None:
                    break
                running[self._task.remote(function)] = number
            if not running:
                return
            ends = asked_at + _NODES_S if began is None else began + end_s
            done, _ = ray.wait(list(running), timeout=max(0.0, ends - time.monotonic()))
            if not done:
                break
            began = began or time.monotonic()
            for ref in done:
                number = running.pop(ref)
                try:
                    yield number, ray.get(ref)
                except ray.exceptions.RayError:
                    yield number, None
        for ref in running:
            ray.cancel(ref, force=True)


def _called(function: Function) -> list[Any]:
    return list(function())
