"""Turns receipts of written batches into commits, in the order that the reader's rule needs."""

from dataclasses import asdict, dataclass, field

import numpy as np
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray

from qasir.index import Index, now
from qasir.stages.rows import Receipt, Report


@dataclass
class Progress:
    """Counts of a run so far."""

    encoded: int = 0
    failed: int = 0
    super_images: int = 0
    video_seconds: float = 0.0
    failures_by_kind: dict[str, int] = field(default_factory=dict)


@dataclass
class _Partial:
    """One video on its way: rows written (or committed earlier), their sum, and its report once it arrived."""

    positions: set[int] = field(default_factory=set)
    n_new: int = 0
    total: NDArray[np.float64] | float = 0.0
    report: Report | None = None

    @property
    def complete(self) -> bool:
        return self.report is not None and (self.report.failed or len(self.positions) == self.report.n_super_images)


class Committer:
    """Collects receipts; `commit` makes what is collected visible: super images, then videos, then deletions.

    planned: {video_id: fingerprint} of the videos this run may write. What earlier runs left of them is looked up here:
    positions already committed count, rows of other fingerprints are deleted once the new ones are readable.
    """

    def __init__(self, index: Index, planned: dict[str, str]) -> None:
        self.index = index
        self.progress = Progress()
        earlier, self._stale = index.leftovers(planned)
        self._done: set[str] = set()
        self._fragments: list[FragmentMetadata] = []
        self._videos: dict[str, _Partial] = {}
        if earlier:
            sums = index.embedding_sums({video_id: planned[video_id] for video_id in earlier})
            self._videos = {video: _Partial(set(rows), total=sums[video]) for video, rows in earlier.items()}
        self._has_rows = set(earlier) | self._stale

    def add(self, receipt: Receipt) -> None:
        self._fragments += receipt.fragments
        for video_id, (positions, total) in receipt.written.items():
            partial = self._videos.setdefault(video_id, _Partial())
            partial.positions.update(positions)
            partial.n_new += len(positions)
            partial.total = partial.total + total
            self._has_rows.add(video_id)
        for report in receipt.reports:
            self.add_report(report)

    def add_report(self, report: Report) -> None:
        self._videos.setdefault(report.video_id, _Partial()).report = report

    def positions(self, video_ids: set[str]) -> dict[str, list[int]]:
        """{video_id: committed or written positions} of unfinished videos, which need not be encoded again."""
        return {v: sorted(self._videos[v].positions) for v in video_ids if v in self._videos}

    @property
    def n_finished(self) -> int:
        """Videos committed or ready to be."""
        return len(self._done) + sum(partial.complete for partial in self._videos.values())

    def unfinished(self, video_ids: list[str]) -> list[str]:
        """Those of the ids that were neither committed nor are ready to be."""
        return [v for v in video_ids if v not in self._done and not (v in self._videos and self._videos[v].complete)]

    def commit(self) -> None:
        """Safe at any time; a kill between its steps leaves rows that no reader sees and the next run keeps or deletes."""
        self.index.commit_super_images(self._fragments)
        self._fragments = []
        ready = {video_id: partial for video_id, partial in self._videos.items() if partial.complete}
        self.index.upsert_videos([self._row(partial) for partial in ready.values()])
        old: dict[str, str | None] = {}
        for video_id, partial in ready.items():
            report = partial.report
            assert report is not None
            if report.failed and video_id in self._has_rows:
                old[video_id] = None
            elif video_id in self._stale:
                old[video_id] = report.fingerprint
            self._count(report, partial.n_new)
            self._done.add(video_id)
            del self._videos[video_id]
        self.index.delete_stale(old)

    def _row(self, partial: _Partial) -> dict[str, object]:
        assert partial.report is not None
        row = asdict(partial.report)
        row["embedding"] = None
        if not partial.report.failed:
            row["embedding"] = (np.asarray(partial.total) / max(1, len(partial.positions))).astype(np.float16)
        row["encoded_at"] = now()
        return row

    def _count(self, report: Report, n_new: int) -> None:
        progress = self.progress
        if report.failed:
            progress.failed += 1
            kind = report.error_kind or "?"
            progress.failures_by_kind[kind] = progress.failures_by_kind.get(kind, 0) + 1
        else:
            progress.encoded += 1
            progress.super_images += n_new
            progress.video_seconds += report.duration_s or 0.0
