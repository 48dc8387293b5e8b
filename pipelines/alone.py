"""Finds the videos whose decoding kills its process, by decoding suspects alone."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

_LAST_LINE = 300
_RUN = "import pickle, sys; f, a, k = pickle.load(sys.stdin.buffer); [None for _ in f(*a, **k)]"


@dataclass(frozen=True)
class Death:
    """How a process that decoded one video ended: a kind of `qasir.errors.ERROR_KINDS` and a message."""

    kind: str
    message: str


def deaths(
    decode: Callable[..., Iterator[Any]], calls: Sequence[tuple[Any, ...]], options: dict[str, Any], *, num_cpus: float
) -> list[Death | None]:
    """Run decode(*call, **options) for each call in a process of its own; None for those that end by themselves."""
    task = ray.remote(num_cpus=num_cpus, max_retries=2)(_death)
    pending = [task.remote(decode, call, options) for call in calls]
    results: list[Death | None] = []
    for ref in pending:
        try:
            results.append(ray.get(ref))
        except ray.exceptions.RayError:  # the watcher itself was lost, with its node say: no fault of the video's
            results.append(None)
    return results


def _death(decode: Callable[..., Iterator[Any]], call: tuple[Any, ...], options: dict[str, Any]) -> Death | None:
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=pickle.dumps((decode, call, options)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    if done.returncode == -signal.SIGALRM:
        return Death("timed_out", f"decoding made no progress for {options.get('time_limit_s')} s")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return Death("crashed", f"the process that decodes it dies of {name}")
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1][:_LAST_LINE]
    return Death("crashed", f"the process that decodes it exits with status {done.returncode}: {last}")
