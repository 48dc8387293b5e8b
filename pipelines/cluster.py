"""Connects to Ray: the cluster that RAY_ADDRESS or a submitted job names, else a local one that ends with the
process."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.data import DataContext

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


def connect() -> None:
    """Start or join Ray once a process, quietly: logs of workers go to Ray's session folder. What the program does on
    SIGTERM, which Ray would replace, stays."""
    if not ray.is_initialized():
        local = not os.environ.get("RAY_ADDRESS")
        with warnings.catch_warnings(), _environment(_RAY_SETTINGS if local else {}):
            # Ray starts its daemons from this process; they use none of Lance, which warns of any fork.
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            before = signal.getsignal(signal.SIGTERM)
            ray.init(
                "local" if local else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
                include_dashboard=False if local else None,
            )
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


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
    return max(1.0, _total("CPU"))


def total_gpus() -> float:
    return _total("GPU")


def node_cpus() -> float:
    """CPUs of the largest node that is there or may come."""
    present = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    config = ray._private.state.state.get_cluster_config()
    groups = [float(group.resources.get("CPU", 0.0)) for group in config.node_group_configs] if config else []
    return max([1.0, *present, *groups])


def node_memory() -> float:
    """Bytes of memory that a task can ask for at most: those of the largest node with a CPU that is there or may come;
    0 where nobody says."""
    present = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    config = ray._private.state.state.get_cluster_config()
    groups = [dict(group.resources) for group in config.node_group_configs] if config else []
    return max([0.0, *(float(each.get("memory", 0.0)) for each in present + groups if each.get("CPU", 0.0) >= 1)])


def may_grow() -> bool:
    """Whether an autoscaler may add nodes of which it does not say how many: KubeRay's, say."""
    return bool(os.environ.get("RAY_ADDRESS")) and not ray._private.state.state.get_max_resources_from_cluster_config()


def encoder_device(gpus_per_encoder: float | None) -> str:
    """What encoders will run on, "cuda" or "cpu"."""
    if gpus_per_encoder is not None:
        return "cuda" if gpus_per_encoder else "cpu"
    connect()
    return "cuda" if total_gpus() else "cpu"


def _total(resource: str) -> float:
    present = float(ray.cluster_resources().get(resource, 0.0))
    # What the autoscaler may add; Ray Data itself asks this way, and there is no public one.
    limits = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return max(present, min(_MOST, float(limits.get(resource, 0.0))))
