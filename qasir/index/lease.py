"""The `runs` table: what each run of a job did, and the lease that lets one job at a time write an index."""

import json
import os
import platform
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any

import pyarrow as pa

from qasir.errors import IndexHeldError
from qasir.index.filters import quote
from qasir.index.index import Index, now, to_json
from qasir.index.maintenance import TIDIED, compact

HEARTBEAT_S = 20.0
LEASE_S = 90.0
"""A run that has not been heard of for this long is dead, and its lease with it."""
_LIBRARIES = ("qasir", "torch", "open_clip_torch", "av", "ray", "pyarrow", "pylance", "lancedb", "numpy")


class Run:
    """A row of `runs` from start to end, kept alive by a heartbeat. Raises IndexHeldError if another run holds the
    index.

    may_have_orphans: whether a run before this one was killed or failed, and none has tidied up since
    (`maintenance.tidy`).
    """

    def __init__(self, index: Index, job: str) -> None:
        self.index = index
        self.job = job
        self.run_id = uuid.uuid4().hex
        self.counts: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.may_have_orphans = False
        self._heard_of = 0.0
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name="heartbeat", daemon=True)

    def __enter__(self) -> "Run":
        self._refuse_if_held()
        self.may_have_orphans = self._orphans_are_possible()
        started = now()
        row = {
            "run_id": self.run_id, "job": self.job, "holder": holder(), "started": started, "heartbeat": started,
            "spec": self.index.spec.to_json(), "versions": to_json(library_versions()),
        }  # fmt: skip
        dataset = self.index.table("runs")
        dataset.insert(pa.Table.from_pylist([row], schema=dataset.schema))
        self._heard_of = time.time()
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._beat.join()
        if error is not None:
            self.counts["error"] = f"{type(error).__name__}: {error}"[:500]
        ended = now()
        updates = {"ended": ended, "heartbeat": ended, "counts": to_json(self.counts), "seconds": to_json(self.seconds)}
        self._update(updates)
        compact(self.index, "runs")  # not before: a heartbeat in between would conflict with it

    def check(self) -> None:
        """Raises IndexHeldError if this run's own lease has run out, as after a suspension: another may be writing
        now."""
        silent_s = time.time() - self._heard_of
        if silent_s > LEASE_S:
            raise IndexHeldError(
                f"this run could not renew its lease on {self.index.uri} for {silent_s:.0f} s and must not write any "
                "more; what it committed is kept, and the same command goes on from there"
            )

    def _refuse_if_held(self) -> None:
        alive = now() - timedelta(seconds=LEASE_S)
        rows = self.index.table("runs").to_table(filter="ended IS NULL").to_pylist()
        for row in rows:
            if row["heartbeat"] > alive and not _is_dead_here(row["holder"]):
                raise IndexHeldError(
                    f"the index at {self.index.uri} is being written by {row['job']} on {row['holder']} since "
                    f"{row['started']:%Y-%m-%d %H:%M:%S} UTC (last heard of at {row['heartbeat']:%H:%M:%S}); wait for "
                    f"it, or {LEASE_S:.0f} s after it died"
                )

    def _orphans_are_possible(self) -> bool:
        rows = self.index.table("runs").to_table(columns=["started", "ended", "counts"]).sort_by("started").to_pylist()
        possible = False
        for row in rows:
            counts = json.loads(row["counts"] or "{}")
            if row["ended"] is None or "error" in counts:
                possible = True
            elif TIDIED in counts:
                possible = False
        return possible

    def _keep_alive(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            with suppress(OSError):  # the next beat tries again, well before the lease runs out
                self._update({"heartbeat": now()})
                self._heard_of = time.time()

    def _update(self, values: dict[str, Any]) -> None:
        texts = {
            name: quote(value) if isinstance(value, str) else f"timestamp '{value:%Y-%m-%d %H:%M:%S.%f}'"
            for name, value in values.items()
        }
        self.index.table("runs").update(texts, where=f"run_id = {quote(self.run_id)}")


def holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_dead_here(name: str) -> bool:
    """Whether the holder was a process of this machine that is gone, so that nobody waits for a lease after a kill."""
    host, _, pid = name.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def library_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
