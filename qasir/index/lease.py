"""The lease that lets one run at a time write an index, and the record of what each run did.

A run inserts its row of `runs` under the next epoch, of which Lance lets only one of two in, and holds the index until
it ends that row or loses it: by not being heard of for `lease_s`, by its own clock, or because a run of a later epoch
is there. Wall clocks decide nothing.

A holder that can be seen from here (`Process.is_alive`) is judged at once. Of any other the beat is watched, by the
clock of whoever wants the index: moving, it lives; still for one lease, its index is free.
"""

import logging
import platform
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Literal

from qasir.errors import IndexHeldError
from qasir.index.formats import upgrade
from qasir.index.index import Index, now, to_json
from qasir.index.maintenance import compact_runs
from qasir.index.process import Process, clock_s
from qasir.index.runs import Row, Runs
from qasir.index.trouble import named
from qasir.index.verification import Clean, last_clean
from qasir.index.writer import Writer

log = logging.getLogger(__name__)

HEARTBEAT_S = 20.0
LEASE_S = 90.0
"""A run that has not been heard of for this long is dead, or must take itself for dead, and its lease with it."""
PROGRESS = "progress"
"""What the `counts` of a run that is going have: {"done", "planned", "super_images", "video_seconds", "seconds"}."""
_TRIES = 20
_LIBRARIES = ("qasir", "torch", "open_clip_torch", "av", "ray", "pyarrow", "pylance", "lancedb", "numpy")

State = Literal["free", "held", "unseen"]

_HELD: set[str] = set()
"""The runs of this process that have not ended; the end of one may not have been recorded, on a full disk say."""


class Run:
    """Holds an index from start to end, and makes it first if it is new. Raises IndexHeldError if another run does.

    mend: what is done first, before the data tables are looked at. writer: what the index is written by meanwhile.
    counts, seconds: what the run's row says when it has ended; progress: what it says meanwhile, from the next
    heartbeat on, replaced whole by whoever knows how far the run is.
    last_clean: how the last run that left everything right left it. is_clean: whether it still is so; set by whoever
    has looked at what was written since, and without that this run's end is not clean either.
    """

    writer: Writer

    def __init__(
        self,
        index: Index,
        job: str,
        *,
        mend: Callable[[Index], object] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self.index = index
        self.job = job
        self.run_id = uuid.uuid4().hex
        self.epoch = 0
        self.counts: dict[str, Any] = {}
        self.seconds: dict[str, Any] = {}
        self.progress: Mapping[str, Any] | None = None
        self.last_clean: Clean | None = None
        self.is_clean = False
        self._mend = mend
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._runs = Runs(index.table_uri("runs"), index.table_metadata)
        self._lost: str | None = None
        self._beats = 0
        self._heard_s = 0.0
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name="heartbeat", daemon=True)

    def __enter__(self) -> "Run":
        with named(self.index.uri):
            self._runs.prepare()
            self._take()
        _HELD.add(self.run_id)
        self._beat.start()
        try:
            with named(self.index.uri):
                if self._mend is not None:
                    self._mend(self.index)
                self.index.make(self.check)
                upgrade(self.index, self.check)
                self.writer = Writer(self.index, self.epoch, self.check)
                self.last_clean, ended_so = last_clean(self._runs, before=self.epoch)
                self.is_clean = ended_so and self.last_clean == Clean.of(self.writer.tables())
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def check(self) -> None:
        """Raises IndexHeldError if this run has lost the index, as after a suspension: another may be writing now."""
        if self._lost is None:
            silent_s = clock_s() - self._heard_s
            if silent_s > self._lease_s:
                self._lost = f"this run could not renew its lease on {self.index.uri} for {silent_s:.0f} s"
            elif (newest := self._runs.newest_holder()) != (self.epoch, self.run_id):
                self._lost = f"this run (epoch {self.epoch}) lost its lease on {self.index.uri} to epoch {newest[0]}"
        if self._lost is not None:
            raise IndexHeldError(
                f"{self._lost} and must not write any more; what it committed is kept, and the same command goes on "
                "from there"
            )

    # Taking

    def _take(self) -> None:
        for _ in range(_TRIES):
            newest = self._runs.newest()
            claims = [row for row in newest if row["ended"] is None]
            if any(state_of(row) == "held" for row in claims):
                self._refuse(claims)
            unseen = [row for row in claims if state_of(row) == "unseen"]
            if unseen and not self._is_still(unseen):
                continue
            epoch = 1 + max((row["epoch"] for row in newest), default=self._runs.newest_holder()[0])
            self._heard_s = clock_s()
            if self._runs.insert(self._row(epoch)):
                self.epoch = epoch
                return
        raise IndexHeldError(f"others keep taking {self.index.uri}: try again when they are done")

    def _row(self, epoch: int) -> Row:
        this, started = Process.this(), now()
        return {
            "run_id": self.run_id, "job": self.job, "holder": str(this), "started": started, "heartbeat": started,
            "spec": self.index.spec.to_json(), "versions": to_json(library_versions()), "epoch": epoch,
            "process": this.to_json(), "beat": 0, "heard_s": self._heard_s, "lease_s": self._lease_s,
        }  # fmt: skip

    def _is_still(self, claims: list[Row]) -> bool:
        """Watch the beats of holders that cannot be seen from here: True when they were still for one lease, False when
        there are other claims now. Raises IndexHeldError when one moves."""
        lease_s = max(row["lease_s"] or LEASE_S for row in claims)
        log.info("%s: watching for up to %.0f s whether %s still runs", self.index.uri, lease_s, claims[0]["holder"])
        since = time.monotonic()
        seen = {row["run_id"]: _beat(row) for row in claims}
        while True:
            is_last = time.monotonic() - since > lease_s
            there = {row["run_id"]: row for row in self._runs.newest() if row["ended"] is None}
            if not set(seen) <= set(there):
                return False
            moving = [there[run_id] for run_id, beat in seen.items() if _beat(there[run_id]) != beat]
            if moving:
                self._refuse(moving)
            if is_last:
                return True
            time.sleep(min(1.0, lease_s / 10))

    def _refuse(self, claims: list[Row]) -> None:
        row = claims[0]
        raise IndexHeldError(
            f"the index at {self.index.uri} is being written by {row['job']} on {row['holder']} since "
            f"{row['started']:%Y-%m-%d %H:%M:%S} UTC (epoch {row['epoch']}, last heard of at "
            f"{row['heartbeat']:%H:%M:%S}); wait for it, or {row['lease_s'] or LEASE_S:.0f} s after it died"
        )

    # Keeping

    def _keep_alive(self) -> None:
        wait_s = self._heartbeat_s
        while not self._over.wait(wait_s):
            wait_s = self._heartbeat_s
            heard_s = clock_s()
            if heard_s - self._heard_s > self._lease_s:
                return  # overslept: it is lost, and must not come to life again
            values: Row = {"heartbeat": now(), "beat": self._beats + 1, "heard_s": heard_s}
            if self.progress is not None:
                values["counts"] = to_json({PROGRESS: self.progress})
            try:
                self._runs.update(self.run_id, values)
            except BaseException as error:  # whatever a store throws once, a panic of Lance's too
                log.warning("%s: a heartbeat failed, and is tried again: %r", self.index.uri, error)
                wait_s = self._heartbeat_s / 4
            else:
                self._beats += 1
                self._heard_s = heard_s

    # Ending

    def _end(self, error: BaseException | None) -> None:
        self._over.set()
        self._beat.join()
        _HELD.discard(self.run_id)
        ended = now()
        values: Row = {"ended": ended, "heartbeat": ended}
        try:
            if error is None:
                self.check()
                self.writer.end()
                if self.is_clean and not self.writer.saw_others:
                    values["clean"] = Clean.of(self.writer.tables()).to_json()
                compact_runs(self.index)  # not before: a heartbeat in between would conflict with it
        except Exception as trouble:
            log.warning("%s: tidying up `runs`: %s", self.index.uri, trouble)
        if error is not None:
            self.counts["error"] = f"{type(error).__name__}: {error}"[:500]
        values |= {"counts": to_json(self.counts), "seconds": to_json(self.seconds)}
        self._record_end(values)

    def _record_end(self, values: Row) -> None:
        """A row that is not ended has the next run wait: worth trying again."""
        for wait_s in (0.5, 2.0, None):
            try:
                self._runs.update(self.run_id, values)
            except Exception as error:
                log.warning("%s: the end of this run could not be recorded: %s", self.index.uri, error)
                if wait_s is not None:
                    time.sleep(wait_s)
            else:
                return


@dataclass(frozen=True)
class Holding:
    """Who holds an index, or held it last. state: "free" (it ended or is dead), "held", or "unseen": it runs, or ran,
    where it cannot be seen from here."""

    job: str
    holder: str
    epoch: int
    started: datetime
    last_beat: datetime
    ended: datetime | None
    state: State


def holding(index: Index) -> Holding | None:
    """What `runs` says of the newest epoch; None when no run of this format has held the index."""
    rows = [row for row in index.runs() if row.get("epoch")]
    if not rows:
        return None
    row = max(rows, key=lambda row: row["epoch"])
    return Holding(
        row["job"], row["holder"], row["epoch"], row["started"], row["heartbeat"], row["ended"],
        "free" if row["ended"] is not None else state_of(row),
    )  # fmt: skip


def state_of(row: Row) -> State:
    """Of a row of `runs` that has not ended."""
    if not row["process"]:
        return "unseen"
    process = Process.from_json(row["process"])
    alive = row["run_id"] in _HELD if process == Process.this() else process.is_alive()
    if alive is None:
        return "unseen"
    silent_s = clock_s() - row["heard_s"]
    return "held" if alive and silent_s <= row["lease_s"] else "free"


def _beat(row: Row) -> tuple[int | None, datetime]:
    return row["beat"], row["heartbeat"]


def library_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
