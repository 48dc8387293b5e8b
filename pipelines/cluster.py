"""Connects to Ray: the cluster that RAY_ADDRESS or a submitted job names, else a local one that ends with the process."""

import logging
import os

import ray
from ray.data import DataContext


def connect() -> None:
    """Start or join Ray once a process, quietly: logs of workers go to Ray's session folder, warnings to stderr."""
    if not ray.is_initialized():
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(logging_level=logging.WARNING, log_to_driver=False, include_dashboard=False if _is_local() else None)
    context = DataContext.get_current()
    context.enable_progress_bars = False  # jobs show one bar of their own, in videos
    context.print_on_execution_start = False
    # A lost block must not end a night's run: what is missing afterwards is found by comparing with the plan.
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def _is_local() -> bool:
    return not os.environ.get("RAY_ADDRESS")


def total_cpus() -> float:
    return float(ray.cluster_resources().get("CPU", 1.0))


def total_gpus() -> float:
    return float(ray.cluster_resources().get("GPU", 0.0))
