"""One run of encoding, on whatever runs its stages: plan, pass, look at suspects alone, pass again, committing all
along."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from qasir.encoding.commit import Committer
from qasir.encoding.decoders import Decoders
from qasir.encoding.options import EncodeOptions
from qasir.encoding.receipts import Resized, Written
from qasir.encoding.reports import Report
from qasir.encoding.rows import plan_table, whole_video
from qasir.encoding.stages import Stages
from qasir.encoding.throughput import Throughput
from qasir.errors import CorpusError, QasirError
from qasir.index.changes import compare
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.maintenance import TIDIED, compact, index_ids, tidy
from qasir.index.trouble import named
from qasir.index.verification import BROKEN, broken_videos, encode_again, written_since
from qasir.video.corpus import Corpus, VideoFile, list_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is. With several indexes a video counts once for each that needs it."""

    done: int
    planned: int
    super_images: int
    video_seconds: float
    seconds: float


OnProgress = Callable[[RunProgress], None]


@dataclass(frozen=True)
class EncodeSummary:
    """What a run did to one index. `super_images` and `video_seconds` are of the videos encoded in this run.

    `retried` videos had failed before; `failed` counts all failures of this run, `failed_again` those of retried ones.
    `stale` is how many videos of the index are read as they were, since the newest version of their file failed.
    `decoded_by` and `fallbacks` count the segments of the run (`qasir.encoding.decoders.Decoders`).
    """

    encoded: int
    failed: int
    unchanged: int
    super_images: int
    video_seconds: float
    seconds: float
    failures_by_kind: dict[str, int]
    throughput: dict[str, Any]
    retried: int = 0
    failed_again: int = 0
    stale: int = 0
    decoded_by: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        return self.encoded + self.failed - self.retried

    @property
    def attempts_failed(self) -> int:
        return self.failed - self.failed_again


def ignore(progress: RunProgress) -> None:
    """An OnProgress for whoever does not watch."""


def run_encoding(
    corpus: Corpus,
    indexes: Sequence[Index],
    stages: Stages,
    options: EncodeOptions,
    *,
    job: str = "encode_corpus",
    on_progress: OnProgress = ignore,
) -> list[EncodeSummary]:
    """Encode the new and changed videos of a corpus. One that failed is tried again when its file changed, and by the
    next runs where its failure may pass (`qasir.index.changes.compare`).

    Nothing is removed. Each video is decoded once for all indexes. on_progress is called after every batch. Raises
    IndexHeldError if another job writes an index. Videos that cannot be read end as failed rows, never as an exception.
    """
    started = time.monotonic()
    with ExitStack() as held:
        leases = [held.enter_context(Run(index, job)) for index in indexes]
        for lease in leases:
            verify_after_kill(lease)
        changes = [compare(corpus, index.states()) for index in indexes]
        for lease, change in zip(leases, changes, strict=True):
            tidy_after_kill(lease, change.todo)
            lease.writer.clear_stale(change.restored)
        encoding = Encoding(leases, [c.todo for c in changes], stages, options, on_progress)
        encoding.run()
        summaries = []
        for lease, index, change in zip(leases, indexes, changes, strict=True):
            compact(lease.writer)
            index_ids(lease.writer)
            n_unchanged, seconds = len(corpus.videos) - len(change.todo), time.monotonic() - started
            summary = encoding.summary(index, retried=len(change.retried), unchanged=n_unchanged, seconds=seconds)
            facts = asdict(summary)
            lease.seconds = {"total": facts.pop("seconds"), **facts.pop("throughput")}
            lease.counts |= facts
            summaries.append(summary)
    return summaries


def verify_after_kill(lease: Run) -> None:
    """Forget the videos whose rows are not what they should be, after a run that was killed or lost the index; they are
    encoded again."""
    if lease.is_clean:
        return
    with named(lease.index.uri):
        among = None if lease.last_clean is None else written_since(lease.index, lease.last_clean)
        broken = broken_videos(lease.index, among)
    if broken:
        encode_again(lease.writer, broken)
        lease.counts[BROKEN] = len(broken)


def tidy_after_kill(lease: Run, todo: Sequence[VideoFile]) -> None:
    """Delete what an earlier run left that was killed; what it committed of the videos to do is kept."""
    if not lease.is_clean:
        lease.counts[TIDIED] = tidy(lease.writer, {video.video_id: video.fingerprint for video in todo})
        lease.is_clean = True


class Encoding:
    """A run over the videos that each index needs.

    Its state is here and nowhere else: a committer an index, which knows what is written, done and failed, and the
    throughput. RunProgress and EncodeSummary are drawn from them.
    """

    def __init__(
        self,
        leases: Sequence[Run],
        todo: Sequence[Sequence[VideoFile]],
        stages: Stages,
        options: EncodeOptions,
        on_progress: OnProgress = ignore,
    ) -> None:
        grids = {lease.index.spec.grid for lease in leases}
        self.throughput = Throughput(grid=grids.pop() if len(grids) == 1 else None)
        self.decoders = Decoders()
        self._stages = stages
        self._options = options
        self._on_progress = on_progress
        self._leases = leases
        self._videos = {video.video_id: video for videos in todo for video in videos}
        self._committers = [
            Committer(lease.writer, {video.video_id: video.fingerprint for video in videos})
            for lease, videos in zip(leases, todo, strict=True)
        ]

    def summary(self, index: Index, *, retried: int, unchanged: int, seconds: float) -> EncodeSummary:
        """What the run did to one of its indexes. retried: of the videos to do, those that had failed before;
        unchanged: the videos that it had no need to look at."""
        counts = next(committer.counts for committer in self._committers if committer.index is index)
        return EncodeSummary(
            **asdict(counts), retried=retried, unchanged=unchanged, stale=index.n_stale(), seconds=seconds,
            throughput=self.throughput.facts(), **asdict(self.decoders),
        )  # fmt: skip

    def run(self) -> None:
        """Encode; then look alone at what did not come back, because a worker that died took its videos along; then
        encode once more what changed while it was read.

        Only a video whose decoding, alone, kills its process or hangs is recorded as failed for it. What is lost
        otherwise is no fault of a file and is encoded again. Raises QasirError, with everything else committed, if it
        is lost twice.
        """
        if not self._videos:
            return
        self._encode()
        if not self._unfinished() and self._plan_changed_again():
            self._encode()
        self.throughput.ended = time.time()
        lost = self._unfinished()
        if lost:
            raise QasirError(
                f"{len(lost)} videos were lost after decoding, {lost[0].video_id} first: a worker died; see its "
                "log, on Ray in the session's folder. All others are committed, and the same command tries these again"
            )

    def _encode(self) -> None:
        self._pass()
        missing = self._unfinished()
        if missing:
            log.warning("%d of %d videos did not come back; looking at each alone", len(missing), len(self._videos))
            self._give_up_on_killers(missing)
            if self._unfinished():
                self._pass()

    def _plan_changed_again(self) -> bool:
        """Plan what changed while it was read as it is now; whether there is any. What is gone has failed."""
        changed = {video_id for committer in self._committers for video_id in committer.changed_while_read()}
        now = {video_id: _looked_up(self._videos[video_id]) for video_id in sorted(changed)}
        self._videos |= {video_id: video for video_id, video in now.items() if video is not None}
        fingerprints = {video_id: None if video is None else video.fingerprint for video_id, video in now.items()}
        for committer in self._committers:
            committer.plan_again({video_id: fingerprints[video_id] for video_id in committer.changed_while_read()})
        if changed:
            log.warning("%d videos changed while they were read; encoding them as they are now", len(changed))
            self._commit()
        return bool(self._unfinished())

    def _unfinished(self) -> list[VideoFile]:
        ids = {video_id for committer in self._committers for video_id in committer.unfinished()}
        return [video for video_id, video in self._videos.items() if video_id in ids]

    def _needs(self) -> dict[str, dict[int, list[int]]]:
        """video_id -> {index number: positions it has already} of the indexes that still want the video."""
        needs: dict[str, dict[int, list[int]]] = {}
        for number, committer in enumerate(self._committers):
            for video_id in committer.unfinished():
                needs.setdefault(video_id, {})[number] = committer.positions(video_id)
        return needs

    def _pass(self) -> None:
        """Run the unfinished videos through the stages once, committing as receipts come in."""
        needs = self._needs()
        for committer in self._committers:
            committer.begin_pass(committer.unfinished())
        plan = plan_table([self._videos[video_id] for video_id in needs], needs)
        committed_at = time.monotonic()
        try:
            with closing(self._stages.run(plan)) as receipts:
                for receipt in receipts:
                    if isinstance(receipt, Resized):
                        self.throughput.begin_again(receipt.before)
                        continue
                    self._committers[receipt.index].add(receipt)
                    self.throughput.add(receipt)
                    if isinstance(receipt, Report):
                        self.decoders.add(receipt)
                    if time.monotonic() - committed_at >= self._options.commit_every_s:
                        self._commit()
                        committed_at = time.monotonic()
                    if isinstance(receipt, Written):
                        self._tell()
        finally:
            if self.throughput.capacity is None:  # a second pass, over what was lost, is small
                self.throughput.capacity = self._stages.capacity
            self._commit()
            self._tell()

    def _commit(self) -> None:
        since = time.perf_counter()
        for committer in self._committers:
            committer.commit()
        self.throughput.committed(time.perf_counter() - since)

    def _tell(self) -> None:
        committers = self._committers
        seconds = time.time() - self.throughput.began
        for lease, committer in zip(self._leases, committers, strict=True):
            lease.progress = {
                "done": committer.n_finished, "planned": len(committer.planned), "super_images": committer.n_written,
                "video_seconds": committer.counts.video_seconds, "seconds": round(seconds, 1),
            }  # fmt: skip
        self._on_progress(
            RunProgress(
                done=sum(committer.n_finished for committer in committers),
                planned=sum(len(committer.planned) for committer in committers),
                super_images=sum(committer.n_written for committer in committers),
                video_seconds=sum(committer.counts.video_seconds for committer in committers),
                seconds=seconds,
            )
        )

    def _give_up_on_killers(self, suspects: Sequence[VideoFile]) -> None:
        needs = self._needs()
        whole = [whole_video(row) for row in plan_table(list(suspects), needs).to_pylist()]
        for video, death in zip(suspects, self._stages.alone(whole), strict=True):
            if death is not None:
                log.warning("%s: %s: %s", video.uri, death.kind, death.message)
                for number in needs[video.video_id]:
                    self._committers[number].give_up(video, death.kind, death.message)
        self._commit()


def _looked_up(video: VideoFile) -> VideoFile | None:
    """A video as its file is now; None when that is gone or cannot be looked up."""
    try:
        (found,) = list_files([video.uri]).videos
    except (CorpusError, OSError):
        return None
    return None if found.problem is not None else replace(found, video_id=video.video_id, uri=video.uri)
