"""What whoever runs an index wants to know of it: its videos by status, failures by kind, runs, versions and tags.

It reads the newest version, whatever is searched. What costs a scan of a table is counted once a version of it.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import lance
import pyarrow.compute as pc

from qasir.app.errors import NotFoundError
from qasir.app.per_version import PerVersion
from qasir.errors import ERROR_KINDS, QasirError
from qasir.index.filters import quote
from qasir.index.index import Index, find_table, index_of, now
from qasir.index.lease import LEASE_S, PROGRESS, state_of
from qasir.index.schemas import FAILED
from qasir.index.snapshot import IS_ENCODED, IS_STALE
from qasir.index.trouble import names_its_uri

_RUNS = 50
_VERSIONS = 20
_EXAMPLES = 5
_LOOK_S = 2.0
_MESSAGE_CHARACTERS = 500
_ANOTHERS = "a kind that another version of qasir knows"
_RUN_COLUMNS = (
    "run_id", "job", "holder", "started", "heartbeat", "ended", "counts", "seconds", "epoch", "process", "heard_s",
    "lease_s",
)  # fmt: skip

RunStatus = Literal["running", "silent", "ended", "failed", "interrupted", "died"]


@dataclass(frozen=True)
class VideoCounts:
    """encoded: videos that can be searched; stale: those of them that are read as they were, since the newest version
    of their file failed; failed: videos of which nothing can be searched."""

    encoded: int
    failed: int
    stale: int


@dataclass(frozen=True)
class FailedVideo:
    video_id: str
    message: str


@dataclass(frozen=True)
class FailureKind:
    """means: of the kind, in words. videos: how many failed so, stale ones too. examples: a few of them."""

    kind: str
    means: str
    videos: int
    examples: list[FailedVideo]


@dataclass(frozen=True)
class RunProgress:
    """Videos, at the run's last heartbeat. left_s: seconds that the rest takes if it is like what is done."""

    done: int
    of: int
    left_s: float | None


@dataclass(frozen=True)
class RunRow:
    """A run of a job. status: "running"; "silent", which runs, or ran, where it cannot be seen from here and has not
    been heard of for its lease; "ended"; "failed"; "interrupted" by a signal; "died" without a word. live: it is
    running. rate: seconds of video encoded a second, and super_images_a_second, both over the whole run so far.
    bottleneck: the stage that held up the others. counts, seconds: all that the run says of itself."""

    epoch: int
    job: str
    holder: str
    started_at: datetime
    heard_at: datetime
    ended_at: datetime | None
    status: RunStatus
    live: bool
    error: str | None
    progress: RunProgress | None
    rate: float | None
    super_images_a_second: float | None
    bottleneck: str | None
    counts: dict[str, Any]
    seconds: dict[str, Any]


@dataclass(frozen=True)
class VersionRow:
    """A version of the table `videos`. tag: that re-indexing gave it, by which it can be searched later."""

    version: int
    at: datetime
    tag: str | None


@dataclass(frozen=True)
class Administration:
    """version: of the table `videos`, null while the index is being made. corpus: what was listed. runs: the last ones,
    newest first, of `n_runs`. versions: the newest and the tagged ones, newest first."""

    uri: str
    corpus: str
    version: int | None
    videos: VideoCounts
    failures: list[FailureKind]
    runs: list[RunRow]
    n_runs: int
    versions: list[VersionRow]
    tags: list[str]
    spec: dict[str, Any]


@dataclass(frozen=True)
class Encoding:
    """A run that is going. The numbers are those of its last heartbeat, null until there is one."""

    job: str
    started_at: datetime
    videos_done: int | None
    videos_of: int | None
    left_s: float | None


@names_its_uri
class Administrator:
    """Looks into the index at `uri`, for any number of threads."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._counted = PerVersion(_counted)
        self._seen: tuple[float, Encoding | None] | None = None
        self._seeing = threading.Lock()

    def look(self) -> Administration:
        """Raises NotFoundError where there is no index (any more), UnreadableIndexError for one that cannot be read."""
        runs = find_table(f"{self.uri}/runs.lance")
        index = Index.find(self.uri)
        if index is None and runs is not None:
            index = index_of(self.uri, runs)
        if index is None:
            raise NotFoundError(f"no index at {self.uri} any more")
        videos = find_table(index.table_uri("videos"))
        counts, failures = (VideoCounts(0, 0, 0), []) if videos is None else self._counted.of(videos)
        tags = {} if videos is None else videos.tags.list()
        rows = [] if runs is None else _rows(runs)
        return Administration(
            uri=index.uri, corpus=index.corpus_source, version=None if videos is None else int(videos.version),
            videos=counts, failures=failures, runs=[_run(row, rows[0]) for row in rows[:_RUNS]], n_runs=len(rows),
            versions=[] if videos is None else _versions(videos, {tag["version"]: name for name, tag in tags.items()}),
            tags=sorted(tags, reverse=True), spec=asdict(index.spec),
        )  # fmt: skip

    def encoding(self, clock: Callable[[], float] = time.monotonic) -> Encoding | None:
        """The run that is going, if there is one and `runs` can be read; looked at every few seconds, however many
        ask."""
        with self._seeing:
            if self._seen is None or clock() - self._seen[0] > _LOOK_S:
                going = None
                with suppress(QasirError, OSError, ValueError, RuntimeError):
                    going = self._going()
                self._seen = clock(), going
            return self._seen[1]

    def _going(self) -> Encoding | None:
        runs = find_table(f"{self.uri}/runs.lance")
        rows = [] if runs is None else _rows(runs, newest_only=True)
        return _encoding(_run(rows[0], rows[0])) if rows else None


def _counted(videos: lance.LanceDataset) -> tuple[VideoCounts, list[FailureKind]]:
    knows_kinds = "error_kind" in videos.schema.names
    counts = VideoCounts(
        encoded=videos.count_rows(IS_ENCODED),
        failed=videos.count_rows(f"status = {quote(FAILED)}"),
        stale=videos.count_rows(IS_STALE) if knows_kinds else 0,
    )
    return counts, _failures(videos) if knows_kinds else []


def _failures(videos: lance.LanceDataset) -> list[FailureKind]:
    """Most frequent first."""
    kinds: Counter[str] = Counter()
    for batch in videos.scanner(columns=["error_kind"], filter="error_kind IS NOT NULL").to_batches():
        counted = batch["error_kind"].value_counts()
        kinds.update(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))
    return [
        FailureKind(kind, ERROR_KINDS.get(kind, _ANOTHERS), n, _examples(videos, kind))
        for kind, n in kinds.most_common()
    ]


def _examples(videos: lance.LanceDataset, kind: str) -> list[FailedVideo]:
    scanner = videos.scanner(
        columns=["video_id", "error"], filter=f"error_kind = {quote(kind)}", limit=_EXAMPLES, scan_in_order=True
    )
    return [
        FailedVideo(row["video_id"], (row["error"] or "")[:_MESSAGE_CHARACTERS])
        for row in scanner.to_table().to_pylist()
    ]


def _rows(runs: lance.LanceDataset, *, newest_only: bool = False) -> list[dict[str, Any]]:
    """Newest first; columns that an older index lacks are null."""
    names = [name for name in _RUN_COLUMNS if name in runs.schema.names]
    condition = None
    if newest_only and "epoch" in names:
        newest = pc.max(runs.to_table(columns=["epoch"])["epoch"]).as_py()
        condition = f"epoch = {newest or 0}"
    rows = [dict.fromkeys(_RUN_COLUMNS) | row for row in runs.to_table(columns=names, filter=condition).to_pylist()]
    return sorted(rows, key=lambda row: (row["epoch"] or 0, row["started"]), reverse=True)


def _run(row: Mapping[str, Any], newest: Mapping[str, Any]) -> RunRow:
    counts, seconds = _facts(row["counts"]), _facts(row["seconds"])
    progress = counts.pop(PROGRESS, None)
    error = counts.get("error")
    status = _ended(error) if row["ended"] is not None else _unended(row, newest)
    done = progress if row["ended"] is None and progress else {**counts, "seconds": seconds.get("total")}
    return RunRow(
        epoch=row["epoch"] or 0, job=row["job"], holder=row["holder"], started_at=row["started"],
        heard_at=row["heartbeat"], ended_at=row["ended"], status=status, live=status == "running", error=error,
        progress=None if row["ended"] is not None or not progress else _progress(progress),
        rate=_per_second(done, "video_seconds"), super_images_a_second=_per_second(done, "super_images"),
        bottleneck=seconds.get("bottleneck"), counts=counts, seconds=seconds,
    )  # fmt: skip


def _ended(error: str | None) -> RunStatus:
    if error is None:
        return "ended"
    return "interrupted" if error.startswith(("KeyboardInterrupt", "SystemExit")) else "failed"


def _unended(row: Mapping[str, Any], newest: Mapping[str, Any]) -> RunStatus:
    if row["epoch"] != newest["epoch"]:
        return "died"  # else no other could have had the index after it
    state = state_of(dict(row))
    if state != "unseen":
        return "running" if state == "held" else "died"
    is_heard = now() - row["heartbeat"] <= timedelta(seconds=row["lease_s"] or LEASE_S)
    return "running" if is_heard else "silent"


def _encoding(run: RunRow) -> Encoding | None:
    told = run.progress
    numbers = (None, None, None) if told is None else (told.done, told.of, told.left_s)
    return Encoding(run.job, run.started_at, *numbers) if run.live else None


def _progress(told: Mapping[str, Any]) -> RunProgress:
    done, of = told["done"], told["planned"]
    return RunProgress(done, of, round(told["seconds"] / done * max(0, of - done), 1) if done else None)


def _per_second(told: Mapping[str, Any], what: str) -> float | None:
    amount, seconds = told.get(what), told.get("seconds")
    return round(amount / seconds, 2) if amount is not None and seconds else None


def _facts(text: str | None) -> dict[str, Any]:
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}


def _versions(videos: lance.LanceDataset, tags: Mapping[int, str]) -> list[VersionRow]:
    """Of a table with thousands of versions only these are read: the newest, and the newest that are tagged."""
    there = sorted((entry["version"] for entry in videos.version_refs()), reverse=True)
    shown = {*there[:_VERSIONS], *[version for version in there if version in tags][:_VERSIONS]}
    found = []
    for version in sorted(shown, reverse=True):
        with suppress(OSError, ValueError):  # dropped meanwhile
            made: Any = videos.checkout_version(version).get_version()["timestamp"]
            # Lance gives local time without saying so.
            found.append(VersionRow(version, made.astimezone(UTC), tags.get(version)))
    return found
