"""Bounds how often Ray Data runs a task again. It retries one whose worker dies without end, so that a file that kills
its decoder would hang a job for ever, and all its own ways to bound that go with Ray 2.64."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import ray

from qasir.errors import QasirError

_MOST = 2


def twice_at_most(fn: Callable[..., Any]) -> Any:
    """A function for `Dataset.map_batches` that does what `fn` does, and raises QasirError in a task that is run a
    third time: its block is lost then."""

    @wraps(fn)
    def counted(*args: Any, **options: Any) -> Any:
        n_before = attempts_before()
        if n_before >= _MOST:
            raise QasirError(f"the worker of this task died {n_before} times")
        return fn(*args, **options)

    return counted


def attempts_before() -> int:
    """How often Ray has begun this task before. There is no public way to ask; a test holds that this one works."""
    worker: Any = ray._private.worker.global_worker
    return int(worker.core_worker.get_current_task_attempt_number())
