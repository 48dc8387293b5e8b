"""Turns receipts into commits, in the order that the reader's rule needs."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray

from qasir.encoding.receipts import Receipt, Written
from qasir.encoding.reports import Report
from qasir.index.index import now
from qasir.index.schemas import FAILED
from qasir.index.writer import Writer
from qasir.video.corpus import VideoFile
from qasir.video.video_file import modified_at

log = logging.getLogger(__name__)

_OF_A_SEGMENT = frozenset(
    {"index", "segment", "n_segments", "n_new", "seconds", "cpu_s", "wait_s", "decoder", "fallback"}
)


@dataclass
class Counts:
    """What a run did to one index so far. `super_images` and `video_seconds` are of the videos encoded; `failed_again`
    counts those of the failed of which the same version had failed before."""

    encoded: int = 0
    failed: int = 0
    failed_again: int = 0
    super_images: int = 0
    video_seconds: float = 0.0
    failures_by_kind: dict[str, int] = field(default_factory=dict)


@dataclass
class _Partial:
    """One video on its way: rows written (or committed earlier), their sum, and its segments' reports as they
    arrive."""

    positions: set[int] = field(default_factory=set)
    not_finite: set[int] = field(default_factory=set)  # encoded in this pass and not written
    n_written: int = 0  # in this run
    n_received: int = 0  # in this pass over the video
    total: NDArray[np.float64] | float = 0.0
    reports: dict[int, Report] = field(default_factory=dict)

    @property
    def failure(self) -> Report | None:
        """The report of the first segment that failed; one whose file changed counts first, since that explains the
        others. None without a report."""
        failed = [self.reports[i] for i in sorted(self.reports) if self.reports[i].failed]
        if failed:
            return next((report for report in failed if report.file_changed), failed[0])
        if self.not_finite and self.reports:
            message = f"NaN or infinite embeddings of {len(self.not_finite)} super images, {min(self.not_finite)} first"
            return replace(self.reports[min(self.reports)], status=FAILED, error_kind="not_finite", error=message)
        return None

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

    A version of a file that fails leaves nothing of itself. Where an older version of it is encoded, that stays as it
    is, marked stale; elsewhere the video is a failed row.

    planned: {video_id: fingerprint} of the videos this run may write. What earlier runs left of them is looked up here:
    positions already committed count, rows of other fingerprints are deleted once the new ones are readable.
    """

    def __init__(self, writer: Writer, planned: Mapping[str, str]) -> None:
        self.index = writer.index
        self._writer = writer
        self.planned: dict[str, str] = {}
        self.counts = Counts()
        self._done: set[str] = set()
        self._fragments: list[FragmentMetadata] = []
        self._videos: dict[str, _Partial] = {}
        self._has_others: set[str] = set()  # rows of other fingerprints than the planned one
        self._changed: dict[str, _Partial] = {}
        self._final: set[str] = set()  # a failure of them counts, even if the file changed once more
        self.n_written = 0  # super images of this run, those of unfinished videos too
        self._plan(planned)

    def _plan(self, planned: Mapping[str, str]) -> None:
        self.planned |= planned
        earlier, others = self.index.leftovers(dict(planned))
        self._has_others |= others
        if earlier:
            sums = self.index.embedding_sums({video_id: planned[video_id] for video_id in earlier})
            whole = {video_id for video_id, total in sums.items() if np.isfinite(total).all()}
            spoilt = [(video_id, planned[video_id]) for video_id in earlier if video_id not in whole]
            self._writer.delete_versions(spoilt)
            self._videos |= {video: _Partial(set(earlier[video]), total=sums[video]) for video in whole}

    def changed_while_read(self) -> list[str]:
        """Videos that failed because their file changed while it was read: not recorded yet, for `plan_again`."""
        return sorted(self._changed)

    def plan_again(self, fingerprints: Mapping[str, str | None]) -> None:
        """Have videos of `changed_while_read` encoded as the versions that are there now; where there is none, let the
        failure count."""
        for video_id, fingerprint in fingerprints.items():
            partial = self._changed.pop(video_id)
            if fingerprint is None:
                self._videos[video_id] = partial
        self._final |= fingerprints.keys()
        self._plan({video_id: found for video_id, found in fingerprints.items() if found is not None})

    def begin_pass(self, video_ids: Iterable[str]) -> None:
        """Forget what an earlier pass over these unfinished videos reported; their written rows are kept."""
        for video_id in video_ids:
            partial = self._videos.get(video_id)
            if partial is not None:
                partial.reports.clear()
                partial.not_finite.clear()
                partial.n_received = 0

    def add(self, receipt: Receipt) -> None:
        """Take a receipt, in any order."""
        if isinstance(receipt, Report):
            if not self._is_over(receipt.video_id):
                self._videos.setdefault(receipt.video_id, _Partial()).reports[receipt.segment] = receipt
        elif any(self._is_there(video_id, positions) for video_id, positions in receipt.positions()):
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
        for video_id, positions in written.not_finite.items():
            partial = self._videos.setdefault(video_id, _Partial())
            partial.not_finite.update(positions)
            partial.n_received += len(positions)

    def _is_there(self, video_id: str, positions: list[int]) -> bool:
        if self._is_over(video_id):
            return True
        partial = self._videos.get(video_id)
        return partial is not None and not (partial.positions | partial.not_finite).isdisjoint(positions)

    def _is_over(self, video_id: str) -> bool:
        """Whether a video needs nothing more, in this pass at least."""
        return video_id in self._done or video_id in self._changed

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
        """Planned videos that were neither committed nor are ready to be, without those of `changed_while_read`."""
        open_ = [video_id for video_id in self.planned if not self._is_over(video_id)]
        return [video_id for video_id in open_ if not (video_id in self._videos and self._videos[video_id].complete)]

    def commit(self) -> None:
        """Safe at any time; a kill between its steps leaves rows that no reader sees and the next run keeps or
        deletes."""
        self._writer.commit_super_images(self._fragments)
        self._fragments = []
        ready = {video_id: partial for video_id, partial in self._videos.items() if partial.complete}
        failures = {video_id: failure for video_id, partial in ready.items() if (failure := partial.failure)}
        encoded = {video_id: partial for video_id, partial in ready.items() if video_id not in failures}
        changed = {v for v, failure in failures.items() if failure.file_changed and v not in self._final}
        self._writer.upsert_videos([*map(_row, encoded.values())])
        self._record({v: failure for v, failure in failures.items() if v not in changed})
        self._writer.delete_stale({v: self.planned[v] for v in encoded if v in self._has_others})
        self._writer.delete_versions([(v, self.planned[v]) for v in failures if ready[v].positions])
        for partial in encoded.values():
            self._count(partial)
        for video_id in changed:
            ready[video_id].positions.clear()
            self._changed[video_id] = ready[video_id]
        self._done |= ready.keys() - changed
        self._videos = {video_id: partial for video_id, partial in self._videos.items() if video_id not in ready}

    def _record(self, failures: Mapping[str, Report]) -> None:
        attempts = self._writer.record_failures([_facts(failure) for failure in failures.values()])
        for video_id, failure in failures.items():
            kind = failure.error_kind or "?"
            self.counts.failed += 1
            self.counts.failed_again += attempts[video_id] > 1
            self.counts.failures_by_kind[kind] = self.counts.failures_by_kind.get(kind, 0) + 1

    def _count(self, encoded: _Partial) -> None:
        self.counts.encoded += 1
        self.counts.super_images += encoded.n_written
        self.counts.video_seconds += _duration_s(encoded) or 0.0


def _row(encoded: _Partial) -> dict[str, Any]:
    """The row of `videos` that an encoded video's segments add up to."""
    reports = [encoded.reports[i] for i in sorted(encoded.reports)]
    return {
        **_facts(reports[0]),
        **{n: sum(getattr(report, n) for report in reports) for n in ("n_sampled", "n_super_images", "decode_errors")},
        "duration_s": _duration_s(encoded),
        "media_offset_s": next((r.media_offset_s for r in reports if r.media_offset_s is not None), None),
        "embedding": (np.asarray(encoded.total) / max(1, len(encoded.positions))).astype(np.float16),
    }


def _facts(report: Report) -> dict[str, Any]:
    """What a report says for the row of its video."""
    facts = {name: value for name, value in asdict(report).items() if name not in _OF_A_SEGMENT}
    return {**facts, "modified_at": modified_at(report.fingerprint), "embedding": None, "encoded_at": now()}


def _duration_s(partial: _Partial) -> float | None:
    """Known to every segment that reached the end of the video, the last one at least; its word counts, whatever order
    they came in."""
    known = (partial.reports[i].duration_s for i in sorted(partial.reports, reverse=True))
    return next((duration_s for duration_s in known if duration_s is not None), None)
