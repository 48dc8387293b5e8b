"""Where a thread's time goes: on a core, in line for one, or waiting for something else."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_QUEUED = "/proc/thread-self/schedstat"


@dataclass(frozen=True)
class Taken:
    """seconds: on the clock. cpu_s: that all threads of the process had of cores. wait_s: in which the thread neither
    had a core nor wanted one: storage was slow, or another device worked; 0 where the system does not tell."""

    seconds: float
    cpu_s: float
    wait_s: float


class Stopwatch:
    """What a thread takes from when this is made, without what passes while it is stopped. For that thread alone."""

    def __init__(self) -> None:
        self._since = _now()

    def taken(self) -> Taken:
        return Taken(*(max(0.0, now - since) for now, since in zip(_now(), self._since, strict=True)))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        at = _now()
        yield
        self._since = tuple(s + now - then for s, now, then in zip(self._since, _now(), at, strict=True))


def _now() -> tuple[float, ...]:
    now = time.perf_counter()
    return now, time.process_time(), now - wanted if (wanted := _wanted_s()) else 0.0


def _wanted_s() -> float:
    """Seconds that this thread has had a core or stood in line for one; 0 where nobody counts (Linux's `schedstat`:
    nanoseconds on a core, then in line)."""
    try:
        file = os.open(_QUEUED, os.O_RDONLY)
    except OSError:
        return 0.0
    try:
        had, queued, _ = os.read(file, 100).split()
    finally:
        os.close(file)
    return (int(had) + int(queued)) / 1e9
