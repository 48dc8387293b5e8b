"""Turns receipts into commits, in the order that the reader's rule needs."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray

from qasir.encoding.receipts import Receipt, Written
from qasir.encoding.reports import Report
from qasir.index.index import Index, now
from qasir.index.schemas import FAILED
from qasir.video.corpus import VideoFile

log = logging.getLogger(__name__)

_OF_A_SEGMENT = frozenset({"index", "segment", "n_segments", "n_new", "seconds"})


@dataclass
class Counts:
    """What a run did to one index so far. `super_images` and `video_seconds` are of the videos encoded."""

    encoded: int = 0
    failed: int = 0
    super_images: int = 0
    video_seconds: float = 0.0
    failures_by_kind: dict[str, int] = field(default_factory=dict)


@dataclass
class _Partial:
    """One video on its way: rows written (or committed earlier), their sum, and its segments' reports as they
    arrive."""

    positions: set[int] = field(default_factory=set)
    n_written: int = 0  # in this run
    n_received: int = 0  # in this pass over the video
    total: NDArray[np.float64] | float = 0.0
    reports: dict[int, Report] = field(default_factory=dict)

    @property
    def failure(self) -> Report | None:
        """The report of the first segment that failed."""
        return next((self.reports[i] for i in sorted(self.reports) if self.reports[i].failed), None)

    @property
    def complete(self) -> bool:
        """All segments have reported, and no row of theirs is still on its way."""
        reports = self.reports.values()
        if not reports or len(reports) < next(iter(reports)).n_segments:
            return False
        if self.failure is not None:
            return self.n_received >= sum(report.n_new for report in reports)
        return len(self.positions) == sum(report.n_super_images for report in reports)


class Committer:
    """Collects receipts for one index; `commit` makes what is collected visible: super images, then videos, then
    deletions.

    planned: {video_id: fingerprint} of the videos this run may write. What earlier runs left of them is looked up here:
    positions already committed count, rows of other fingerprints are deleted once the new ones are readable.
    """

    def __init__(self, index: Index, planned: dict[str, str]) -> None:
        self.index = index
        self.planned = planned
        self.counts = Counts()
        earlier, self._stale = index.leftovers(planned)
        self._done: set[str] = set()
        self._fragments: list[FragmentMetadata] = []
        self._videos: dict[str, _Partial] = {}
        if earlier:
            sums = index.embedding_sums({video_id: planned[video_id] for video_id in earlier})
            self._videos = {video: _Partial(set(rows), total=sums[video]) for video, rows in earlier.items()}
        self._has_rows = set(earlier) | self._stale
        self.n_written = 0  # super images of this run, those of unfinished videos too

    def begin_pass(self, video_ids: Iterable[str]) -> None:
        """Forget what an earlier pass over these unfinished videos reported; their written rows are kept."""
        for video_id in video_ids:
            partial = self._videos.get(video_id)
            if partial is not None:
                partial.reports.clear()
                partial.n_received = 0

    def add(self, receipt: Receipt) -> None:
        """Take a receipt, in any order."""
        if isinstance(receipt, Report):
            if receipt.video_id not in self._done:
                self._videos.setdefault(receipt.video_id, _Partial()).reports[receipt.segment] = receipt
        elif any(self._is_there(video_id, positions) for video_id, (positions, _) in receipt.videos.items()):
            # Left out whole: what it alone had is encoded again.
            log.warning("%s: a batch was written twice; its second copy is left out", self.index.uri)
        else:
            self._add_written(receipt)

    def _add_written(self, written: Written) -> None:
        self._fragments += written.fragments
        for video_id, (positions, total) in written.videos.items():
            partial = self._videos.setdefault(video_id, _Partial())
            partial.positions.update(positions)
            partial.n_written += len(positions)
            self.n_written += len(positions)
            partial.n_received += len(positions)
            partial.total = partial.total + total
            self._has_rows.add(video_id)

    def _is_there(self, video_id: str, positions: list[int]) -> bool:
        written = self._videos[video_id].positions if video_id in self._videos else ()
        return video_id in self._done or any(position in written for position in positions)

    def give_up(self, video: VideoFile, kind: str, message: str) -> None:
        """Record a video that cannot be finished as failed."""
        report = Report(**video.columns, status=FAILED, error_kind=kind, error=message)
        self._videos.setdefault(video.video_id, _Partial()).reports = {0: report}

    def positions(self, video_id: str) -> list[int]:
        """Committed or written positions of an unfinished video, which need not be encoded again."""
        return sorted(self._videos[video_id].positions) if video_id in self._videos else []

    @property
    def n_finished(self) -> int:
        """Videos committed or ready to be."""
        return len(self._done) + sum(partial.complete for partial in self._videos.values())

    def unfinished(self) -> list[str]:
        """Planned videos that were neither committed nor are ready to be."""
        return [v for v in self.planned if v not in self._done and not (v in self._videos and self._videos[v].complete)]

    def commit(self) -> None:
        """Safe at any time; a kill between its steps leaves rows that no reader sees and the next run keeps or
        deletes."""
        self.index.commit_super_images(self._fragments)
        self._fragments = []
        ready = {video_id: partial for video_id, partial in self._videos.items() if partial.complete}
        self.index.upsert_videos([_row(partial) for partial in ready.values()])
        old: dict[str, str | None] = {}
        for video_id, partial in ready.items():
            if partial.failure is not None and video_id in self._has_rows:
                old[video_id] = None
            elif video_id in self._stale:
                old[video_id] = self.planned[video_id]
            self._count(partial)
            self._done.add(video_id)
            del self._videos[video_id]
        self.index.delete_stale(old)

    def _count(self, partial: _Partial) -> None:
        counts = self.counts
        if partial.failure is not None:
            counts.failed += 1
            kind = partial.failure.error_kind or "?"
            counts.failures_by_kind[kind] = counts.failures_by_kind.get(kind, 0) + 1
        else:
            counts.encoded += 1
            counts.super_images += partial.n_written
            counts.video_seconds += _duration_s(partial) or 0.0


def _row(partial: _Partial) -> dict[str, object]:
    """The row of `videos` that a complete video's segments add up to."""
    reports = [partial.reports[i] for i in sorted(partial.reports)]
    failure = partial.failure
    row = {name: value for name, value in asdict(failure or reports[0]).items() if name not in _OF_A_SEGMENT}
    row["embedding"] = None
    row["encoded_at"] = now()
    if failure is None:
        row["duration_s"] = _duration_s(partial)
        for name in ("n_sampled", "n_super_images", "decode_errors"):
            row[name] = sum(getattr(report, name) for report in reports)
        row["embedding"] = (np.asarray(partial.total) / max(1, len(partial.positions))).astype(np.float16)
    return row


def _duration_s(partial: _Partial) -> float | None:
    """Known to every segment that reached the end of the video, the last one at least; its word counts, whatever order
    they came in."""
    known = (partial.reports[i].duration_s for i in sorted(partial.reports, reverse=True))
    return next((duration_s for duration_s in known if duration_s is not None), None)
