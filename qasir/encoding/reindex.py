"""Brings indexes up to date with their corpus: encodes what is new or changed, removes what is gone, keeps tables in
shape."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from qasir.encoding.options import EncodeOptions, ReindexOptions
from qasir.encoding.run import Encoding, OnProgress, ignore, tidy_after_kill, verify_after_kill
from qasir.encoding.stages import Stages
from qasir.errors import SpecError
from qasir.index.changes import Changes, compare
from qasir.index.index import Index
from qasir.index.lease import Holding, Run, holding
from qasir.index.maintenance import compact, drop_old, newest_tag, tag, update_indexes
from qasir.index.recovery import Repaired, mend_manifests, repair
from qasir.video.corpus import Corpus

_SMALL_FRAGMENTS = 8
"""A nightly run adds a fragment or two: merged about once a week."""

StagesFor = Callable[[Sequence[Index]], Stages]
"""Makes the stages that encode more videos into these indexes, with the models that made them. Raises ModelError,
SpecError."""


@dataclass(frozen=True)
class ReindexSummary:
    """What a run did, or would do, to one index. `version` is the tag of what it left.

    `retried` videos had failed before; `failed` counts all failures of this run, `failed_again` those of retried ones.
    `stale` is how many videos of the index are read as they were, since the newest version of their file failed.
    `decoded_by` and `fallbacks` count the segments of the run (`qasir.encoding.decoders.Decoders`).
    `repaired` is what was mended where that was asked for; `holding`, of a plan, who holds the index or held it last;
    `throughput` is where encoding spent its time, where anything was encoded.
    """

    new: int
    changed: int
    removed: int
    unchanged: int
    failed: int
    seconds: float
    version: str | None
    retried: int = 0
    repaired: Repaired | None = None
    holding: Holding | None = None
    failures_by_kind: dict[str, int] = field(default_factory=dict)
    failed_again: int = 0
    stale: int = 0
    decoded_by: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)
    throughput: dict[str, Any] | None = None

    @property
    def attempts(self) -> int:
        return self.new + self.changed

    @property
    def attempts_failed(self) -> int:
        return self.failed - self.failed_again


def plan_reindex(corpus: Corpus, index: Index, options: ReindexOptions) -> ReindexSummary:
    """What `reindex_corpus` would do. Raises CorpusError if it would remove too much."""
    started = time.monotonic()
    changes = _changes(corpus, index, options)
    summary = _summary(changes, index, version=newest_tag(index), seconds=time.monotonic() - started)
    return replace(summary, holding=holding(index))


def reindex_corpus(
    corpus: Corpus,
    indexes: Sequence[Index],
    stages: StagesFor,
    options: ReindexOptions,
    encode: EncodeOptions,
    *,
    on_progress: OnProgress = ignore,
) -> list[ReindexSummary]:
    """Encode new and changed videos, delete removed ones, then compact, update vector indexes, tag and drop old
    versions.

    Videos are decoded once for all indexes. Readers see a video's old rows or its new ones. Raises CorpusError, before
    anything is changed, if more would be removed than allowed, and IndexHeldError if another job writes an index.
    """
    started = time.monotonic()
    versions: list[int | None] = [None] * len(indexes)
    changes: list[Changes] = []
    if not options.repair:  # a damaged index can tell only once it is mended
        versions = [index.version for index in indexes]
        changes = [_changes(corpus, index, options) for index in indexes]
    repaired = [Repaired() if options.repair else None for _ in indexes]
    with ExitStack() as held:
        leases = [
            held.enter_context(Run(index, "reindex_corpus", mend=_mend(mended)))
            for index, mended in zip(indexes, repaired, strict=True)
        ]
        for lease, mended in zip(leases, repaired, strict=True):
            if mended is not None:
                repair(lease.writer, mended)
                lease.is_clean = False
            verify_after_kill(lease)
        changes = changes or [_changes(corpus, index, options) for index in indexes]
        for number, (index, version) in enumerate(zip(indexes, versions, strict=True)):
            if index.version != version:  # another job finished in between
                changes[number] = _changes(corpus, index, options)
        for lease, change in zip(leases, changes, strict=True):
            tidy_after_kill(lease, change.todo)
            lease.writer.clear_stale(change.restored)
        todo = {lease.index: change.todo for lease, change in zip(leases, changes, strict=True) if change.todo}
        writing = [lease for lease in leases if lease.index in todo]
        encoding = Encoding(writing, list(todo.values()), stages(list(todo)), encode, on_progress)
        encoding.run()
        summaries = []
        for lease, index, change, mended in zip(leases, indexes, changes, repaired, strict=True):
            writer = lease.writer
            writer.remove(change.removed)
            compact(writer, most=_SMALL_FRAGMENTS)
            update_indexes(writer)
            tagged = tag(writer)
            drop_old(writer, options.keep_versions_for)
            summary = _summary(change, index, version=tagged, seconds=time.monotonic() - started)
            summary = replace(summary, repaired=mended)
            lease.seconds = {"total": summary.seconds}
            if index in todo:
                done = encoding.summary(
                    index, retried=summary.retried, unchanged=summary.unchanged, seconds=summary.seconds
                )
                summary = replace(
                    summary, failed=done.failed, failed_again=done.failed_again, failures_by_kind=done.failures_by_kind,
                    decoded_by=done.decoded_by, fallbacks=done.fallbacks,
                    throughput=done.throughput,
                )  # fmt: skip
                lease.seconds |= done.throughput
                lease.counts |= {"super_images": done.super_images, "video_seconds": done.video_seconds}
            lease.counts |= asdict(replace(summary, throughput=None))
            summaries.append(summary)
    return summaries


def _mend(done: Repaired | None) -> Callable[[Index], None] | None:
    return None if done is None else partial(mend_manifests, done=done)


def check_from_videos(index: Index) -> None:
    """Raises SpecError for an index of imported features, which has no videos to encode."""
    if index.spec.features:
        raise SpecError(
            f"the index at {index.uri} holds imported features of {index.corpus_source}: bring it up to date by "
            "jobs/import_features.py, with the options that made it"
        )


def _changes(corpus: Corpus, index: Index, options: ReindexOptions) -> Changes:
    check_from_videos(index)
    changes = compare(corpus, index.states(), retry_failed=options.retry_failed)
    changes.check_removed(options.max_removed, index.uri)
    return changes


def _summary(changes: Changes, index: Index, *, version: str | None, seconds: float) -> ReindexSummary:
    return ReindexSummary(
        new=len(changes.new),
        changed=len(changes.changed),
        removed=len(changes.removed),
        unchanged=changes.n_unchanged,
        failed=0,
        seconds=seconds,
        version=version,
        retried=len(changes.retried),
        stale=index.n_stale(),
    )
