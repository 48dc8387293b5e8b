"""Connects to Ray: the cluster that RAY_ADDRESS or a submitted job names, else a local one that ends with the
process."""

import atexit
import ctypes
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import ray

from pipelines.growth import UNTOLD, has_bare_head, node_groups
from pipelines.local_ray import few_daemons, is_here
from qasir.video.hardware import CUDA, check_gpus_here, no_gpu_in

_RAY_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Stages that take fractions of a CPU need more worker processes than there are CPUs, and Ray ends the surplus after
    # a second of idleness: starting them again and again took two thirds of the time on two cores.
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
    # Ray warns, on stdout, of more than a few processes a CPU; here that is by design.
    "RAY_worker_maximum_startup_concurrency": "16",
}
"""For a local Ray; `ray_cluster.yaml` sets what matters on its nodes."""
_LOUD = ("ray.data", "ray.data._internal.progress")


_EXIT_S = 10.0
"""How long a process that ends waits for a Ray that it began to start."""
_KEEP_S = 0.01


_early: "_Early | None" = None


def connect() -> None:
    """Start or join Ray once a process, quietly: logs of workers go to Ray's session folder. What the program does on
    SIGTERM, which Ray would replace, stays."""
    if _early is not None:
        _early.wait()
    if not ray.is_initialized():
        _init()


def connect_early() -> None:
    """Begin to start a Ray of this machine, which takes seconds, beside what this process does next; `connect` waits
    for it. A cluster is joined by `connect`: it may not be there, which takes long to find out."""
    global _early
    if _early is None and is_here() and not ray.is_initialized():
        _early = _Early()


class _Early:
    """A thread that starts Ray. It stays until the process ends, since Linux ends Ray's daemons with the thread that
    started them; and the process does not end before Ray is there to be ended, unless that takes long."""

    def __init__(self) -> None:
        self._is_done = threading.Event()
        self._error: BaseException | None = None
        atexit.register(self._wait_at_exit)
        threading.Thread(target=self._run, name="ray.init", daemon=True).start()

    def _run(self) -> None:
        try:
            _init()
        except BaseException as error:  # which whoever waits is to see
            self._error = error
        self._is_done.set()
        threading.Event().wait()

    def _wait_at_exit(self) -> None:
        with suppress(KeyboardInterrupt):  # of somebody who does not want to wait
            self._is_done.wait(_EXIT_S)

    def wait(self) -> None:
        self._is_done.wait()
        if self._error is not None:
            raise self._error


def _init() -> None:
    is_local = is_here()
    # Ray starts its daemons from this process; they use none of Lance, which warns of any fork.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    with ExitStack() as settings:
        settings.enter_context(_sigterm_kept())
        if is_local:
            settings.enter_context(_environment(_RAY_SETTINGS))
            settings.enter_context(few_daemons())
        ray.init(
            "local" if is_local else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
            include_dashboard=False if is_local else None,
        )


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """SIGTERM stays what it is while Ray starts, which puts a handler of its own, of C++, below Python's: one that ends
    the process. Threads cannot set Python's handlers, so what is put back, at once, is the system's."""
    if not callable(signal.getsignal(signal.SIGTERM)):
        yield
        return
    handler_of, set_handler = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    handler_of.argtypes, handler_of.restype = [ctypes.c_int], ctypes.c_void_p
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    handler = handler_of(signal.SIGTERM)
    is_started = threading.Event()

    def keep() -> None:
        while not is_started.wait(_KEEP_S):
            put_back()
        put_back()

    def put_back() -> None:
        if callable(signal.getsignal(signal.SIGTERM)):  # not where a first signal has made a second one deadly
            set_handler(signal.SIGTERM, handler)

    keeper = threading.Thread(target=keep, name="SIGTERM", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        is_started.set()
        keeper.join()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that are not set yet, for as long as Ray's daemons start, which inherit them."""
    new = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


@contextmanager
def graph_settings(
    *, block_bytes: int | None = None, may_lose_blocks: bool = False, in_order: bool = False
) -> Iterator[None]:
    """Ray Data's settings while a graph is made and runs, put back afterwards: quiet, since jobs show progress of their
    own.

    block_bytes: have stages hand on blocks of about this size, and not of Ray's 128 MB, so that work is committed soon
    after it is done. may_lose_blocks: a block that fails is left out without a word, so whoever asks for it must count
    what came back.
    in_order: blocks come out in the order in which they went in.
    """
    from ray.data import DataContext  # which takes longer to import than Ray, and is not needed to start it

    context = DataContext.get_current()
    wanted: list[tuple[Any, str, Any]] = [
        (context, "enable_progress_bars", False),
        (context, "print_on_execution_start", False),
        (context, "max_errored_blocks", -1 if may_lose_blocks else 0),
        (context, "target_max_block_size", block_bytes or context.target_max_block_size),
        (context.execution_options, "preserve_order", in_order),
        # An encoder that waits for decoders stays: ended, it is missed a moment later, and starting one takes seconds
        # of a CPU.
        (context.autoscaling_config, "actor_pool_util_downscaling_threshold", -1.0),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in wanted]
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    with warnings.catch_warnings():
        # Advice about small inputs, which are normal here.
        warnings.filterwarnings("ignore", module=r"ray\.data\._internal\.execution\.operators")
        try:
            for owner, name, value in wanted:
                setattr(owner, name, value)
            for name in _LOUD:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


_MOST = 10_000.0
"""What an autoscaler without a limit counts as."""


def total_cpus() -> float:
    """CPUs of the cluster: those it has, or may grow to."""
    return max(1.0, _total("CPU"), UNTOLD["CPU"] if grows_untold() else 0.0)


def total_gpus() -> float:
    """GPUs of the cluster: those it has, or is known to grow to."""
    return _total("GPU")


def present(resource: str) -> float:
    """What the nodes that are there have of a resource: "CPU", "GPU", or bytes of "memory" for tasks."""
    return float(ray.cluster_resources().get(resource, 0.0))


def node_cpus() -> float:
    """CPUs of the largest node that is there or may come."""
    return max([1.0, *(each.get("CPU", 0.0) for each in _nodes())])


def node_memory() -> float:
    """Bytes of memory that a task can ask for at most: those of the largest node with a CPU that is there or may come;
    0 where nobody says."""
    return max([0.0, *(each.get("memory", 0.0) for each in _nodes() if each.get("CPU", 0.0) >= 1)])


def grows_untold() -> bool:
    """Whether an autoscaler may add nodes of which it does not say how many: KubeRay's, say."""
    return not is_here() and not node_groups() and has_bare_head()


def grows() -> bool:
    """Whether nodes may come that are not there."""
    return grows_untold() or total_cpus() > max(1.0, present("CPU"))


def check_gpus_early(decoder: str) -> None:
    """`check_gpus` as far as it can be told before Ray is there."""
    if is_here() and not ray.is_initialized():
        check_gpus_here(decoder)


def check_gpus(decoder: str) -> None:
    """Raises SpecError when GPUs must decode and the cluster neither has one nor may get one."""
    if decoder != CUDA:
        return
    check_gpus_early(decoder)
    connect()
    if not total_gpus() and not grows_untold():
        raise no_gpu_in("the cluster")


def encoder_device(gpus_per_encoder: float | None) -> str:
    """What encoders will run on, "cuda" or "cpu"."""
    if gpus_per_encoder is not None:
        return "cuda" if gpus_per_encoder else "cpu"
    connect()
    return "cuda" if total_gpus() else "cpu"


def _total(resource: str) -> float:
    told = [each.resources.get(resource, 0.0) * (_MOST if each.most is None else each.most) for each in node_groups()]
    return max(present(resource), min(_MOST, sum(told)))


def _nodes() -> list[Mapping[str, float]]:
    """The resources of each node that is there, and of each kind that may come."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]] + [each.resources for each in node_groups()]
