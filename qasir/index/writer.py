"""Every write to an index's data tables: each looks first whether its run still holds the index.

Super images are committed first, then the `videos` row (the switch), then old ones are deleted: `qasir.index.index`
says why.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata

from qasir.index.filters import id_filter, in_chunks, quote
from qasir.index.index import Index
from qasir.index.schemas import DATA_TABLES, ENCODED, FAILED, STALE_MARK, videos_schema
from qasir.index.trouble import named

log = logging.getLogger(__name__)

_OF_ROWS = (
    lance.LanceOperation.Append,
    lance.LanceOperation.Delete,
    lance.LanceOperation.Overwrite,
    lance.LanceOperation.Update,
)
"""What compaction and indexes do not do."""

EPOCH = "qasir.epoch"
"""The property of a Lance transaction that says which run committed it."""


class Writer:
    """Writes an index for the run of this epoch. check: raises IndexHeldError when that run has lost the index.

    saw_others: whether somebody else changed the data tables meanwhile, a run that lost its lease in mid-commit say:
    then the next run has to look at what was written.
    """

    def __init__(self, index: Index, epoch: int, check: Callable[[], None]) -> None:
        self.index = index
        self.epoch = epoch
        self.saw_others = False
        self._check = check
        self._versions = {name: index.table(name).version for name in DATA_TABLES}

    @contextmanager
    def changing(self, name: str, *, commits: int | None = None) -> Iterator[lance.LanceDataset]:
        """The table, to be changed by `commits` commits at most; None for any number."""
        self._check()
        dataset = self.index.table(name)
        before = dataset.version
        self._notice(name, before != self._versions.pop(name, before))
        with named(self.index.uri):
            yield dataset
        table = self.index.table(name)
        self._versions[name] = table.version
        if commits is None:
            versions = range(before + 1, table.version + 1)
            self._notice(name, any(_changes_rows(table, version, self.epoch) for version in versions))
        else:
            self._notice(name, table.version > before + commits)

    def end(self) -> None:
        """Look once more whether the tables are as this run left them."""
        for name, version in self._versions.items():
            self._notice(name, self.index.table(name).version != version)

    def tables(self) -> list[lance.LanceDataset]:
        """The data tables as this run left them so far, in the order of DATA_TABLES."""
        return [self.index.table(name, version=self._versions[name]) for name in DATA_TABLES]

    def commit_super_images(self, fragments: Sequence[FragmentMetadata]) -> None:
        """Make fragments visible that `Index.write_super_images` wrote."""
        if fragments:
            with self.changing("super_images", commits=1) as dataset:
                operation = lance.LanceOperation.Append(list(fragments))
                self._commit(dataset.uri, lance.Transaction(dataset.version, operation))

    def upsert_videos(self, rows: Sequence[dict[str, Any]]) -> None:
        """Insert or replace rows of `videos` by video_id: the switch that makes a video's super images readable."""
        if rows:
            table = pa.Table.from_pylist(list(rows), schema=videos_schema(self.index.spec))
            with self.changing("videos", commits=1) as dataset:
                merge = dataset.merge_insert("video_id").when_matched_update_all().when_not_matched_insert_all()
                transaction, _ = merge.execute_uncommitted(table)
                self._commit(dataset.uri, transaction)

    def record_failures(self, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Record versions of videos that failed, given as rows of `videos`: as failed rows, but where another version
        of the video is encoded, its row stays and is marked stale. Returns how often each has been tried now."""
        if not rows:
            return {}
        states = self.index.states([row["video_id"] for row in rows])
        failed: list[dict[str, Any]] = []
        stale: list[dict[str, Any]] = []
        for row in rows:
            state, version = states.get(row["video_id"]), row["fingerprint"]
            attempts = 1 + (0 if state is None else state.attempts_at(version))
            row = {**row, "status": FAILED, "embedding": None, "failed_fingerprint": version, "attempts": attempts}
            is_stale = state is not None and state.status == ENCODED and state.fingerprint != version
            (stale if is_stale else failed).append(row)
        self.upsert_videos(failed)
        self.mark_stale(stale)
        return {row["video_id"]: row["attempts"] for row in (*failed, *stale)}

    def mark_stale(self, marks: Sequence[dict[str, Any]]) -> None:
        """Set the columns of STALE_MARK, and no others, of rows that are there."""
        if marks:
            table = pa.Table.from_pylist(list(marks), schema=videos_schema(self.index.spec))
            with self.changing("videos", commits=1) as dataset:
                merge = dataset.merge_insert("video_id").when_matched_update_all()
                transaction, _ = merge.execute_uncommitted(table.select(["video_id", *STALE_MARK]))
                self._commit(dataset.uri, transaction)

    def clear_stale(self, video_ids: Sequence[str]) -> None:
        """Take the mark away from videos whose encoded version is that of their file again."""
        self.mark_stale([{"video_id": video_id} for video_id in video_ids])

    def delete_stale(self, keep: dict[str, str | None]) -> None:
        """Delete the super images of these videos that are not of the fingerprint to keep (None keeps none)."""
        conditions = [
            f"(video_id = {quote(v)})" if f is None else f"(video_id = {quote(v)} AND fingerprint != {quote(f)})"
            for v, f in keep.items()
        ]
        self._delete_versions(conditions)

    def delete_versions(self, versions: Sequence[tuple[str, str]]) -> None:
        """Delete the super images of these (video_id, fingerprint)."""
        conditions = [f"(video_id = {quote(v)} AND fingerprint = {quote(f)})" for v, f in versions]
        self._delete_versions(conditions)

    def remove(self, video_ids: Sequence[str]) -> None:
        """Delete videos: first their rows of `videos`, so that no reader sees a part of one."""
        for name in DATA_TABLES:
            self._delete(name, [id_filter(ids) for ids in in_chunks(list(video_ids))])

    def _delete_versions(self, conditions: Sequence[str]) -> None:
        self._delete("super_images", [" OR ".join(some) for some in in_chunks(conditions)])

    def _delete(self, name: str, filters: Sequence[str]) -> None:
        for condition in filters:
            with self.changing(name, commits=1) as dataset:
                dataset.delete(condition)

    def _commit(self, uri: str, transaction: lance.Transaction) -> None:
        transaction.transaction_properties = {EPOCH: str(self.epoch)}
        lance.LanceDataset.commit(uri, transaction)

    def _notice(self, name: str, others: bool) -> None:
        if others and not self.saw_others:
            log.warning("%s: another wrote to %s meanwhile; the next run looks at it", self.index.uri, name)
            self.saw_others = True


def _changes_rows(table: lance.LanceDataset, version: int, epoch: int) -> bool:
    """Whether a version holds rows that another than this run wrote or deleted; False where it does not say, or is
    gone."""
    try:
        transaction = table.read_transaction(version)
    except (ValueError, OSError, TypeError):  # TypeError: Lance 14 stumbles over a compaction beside an index
        return False
    if transaction is None or not isinstance(transaction.operation, _OF_ROWS):
        return False
    return (transaction.transaction_properties or {}).get(EPOCH) != str(epoch)
