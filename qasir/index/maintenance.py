"""Keeps an index in shape over months of runs: compaction, indexes, tags, and the removal of what is out of use.

Only for whoever holds the index: what changes data takes its `Writer`, which looks each time.

By Lance itself: LanceDB's `optimize` (0.40) has no say in how large fragments become or how many deleted rows are too
many, and refuses to drop old versions as soon as one of them is tagged, which the last re-indexing always is.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from lance import LanceDataset

from qasir.index.index import Index, now
from qasir.index.schemas import DATA_TABLES, ENCODED
from qasir.index.trouble import named
from qasir.index.writer import Writer

TIDIED = "orphans_deleted"
"""What a run's counts have when it tidied up."""
ID_INDEX = "video_id_idx"
"""The name of the index on `super_images.video_id`, by which the rows of some videos are found without a scan."""
_TAG = "reindex-"
_TAG_TIME = "%Y%m%dT%H%M%SZ"
_ROWS_A_FRAGMENT = (
    1 << 16
)  # about 1 GB with thumbnails and cells; larger ones would be rewritten for every small change
_SMALL_FRAGMENTS = 64
_DELETED_SHARE = 0.1
_TAGS_KEPT = 2
"""However old: the last one, and the one before, to which a bad night can be undone."""
_SHORTEST_RUNS = timedelta(hours=1)


def compact(writer: Writer, *, most: int = _SMALL_FRAGMENTS) -> None:
    """Merge a data table's small fragments where there are more than `most`, and rewrite those with many deleted
    rows."""
    for name in DATA_TABLES:
        if _needs_compaction(writer.index.table(name), most):
            with writer.changing(name) as dataset:
                _compact(dataset)


def compact_runs(index: Index) -> None:
    """The same for `runs`, which its holder alone changes."""
    dataset = index.table("runs")
    if _needs_compaction(dataset, _SMALL_FRAGMENTS):
        _compact(dataset)


def _needs_compaction(dataset: LanceDataset, most: int) -> bool:
    small = 0
    worn = False
    for fragment in dataset.get_fragments():
        n_rows = fragment.metadata.physical_rows
        small += n_rows < _ROWS_A_FRAGMENT
        worn |= fragment.num_deletions > _DELETED_SHARE * n_rows
    return small > most or worn


def _compact(dataset: LanceDataset) -> None:
    dataset.optimize.compact_files(
        target_rows_per_fragment=_ROWS_A_FRAGMENT, materialize_deletions_threshold=_DELETED_SHARE
    )


def tidy(writer: Writer, planned: Mapping[str, str]) -> int:
    """Delete the super images that nobody can read or will need, and return how many there were: what runs leave that
    are killed between the switch of a video and the deletion of its old rows, or while they remove one.

    planned: {video_id: fingerprint} of the videos about to be encoded, of which what is there is kept.
    """
    index = writer.index
    with named(index.uri):
        rows = index.table("super_images").to_table(columns=["video_id", "fingerprint"])
    versions = rows.group_by(["video_id", "fingerprint"]).aggregate([([], "count_all")])
    current = {video_id: s.fingerprint for video_id, s in index.states().items() if s.status == ENCODED}
    orphans = [
        row
        for row in versions.to_pylist()
        if row["fingerprint"] not in (current.get(row["video_id"]), planned.get(row["video_id"]))
    ]
    writer.delete_versions([(row["video_id"], row["fingerprint"]) for row in orphans])
    return sum(row["count_all"] for row in orphans)


def update_indexes(writer: Writer) -> None:
    """Make the index on `video_id` if there is none, and bring it, and vector indexes, up to date with their rows."""
    index_ids(writer)
    for name in DATA_TABLES:
        if writer.index.table(name).list_indices():
            with writer.changing(name) as dataset:
                dataset.optimize.optimize_indices()


def index_ids(writer: Writer) -> None:
    """Make the index on `video_id`, if there is none; rows added since are found by scanning those alone."""
    images = writer.index.table("super_images")
    if images.count_rows() and not any(entry["name"] == ID_INDEX for entry in images.list_indices()):
        with writer.changing("super_images") as dataset:
            dataset.create_scalar_index("video_id", "BTREE", name=ID_INDEX)


def tag(writer: Writer) -> str:
    """Tag the present versions of `videos` and `super_images` with one name, and return it.

    When nothing changed since the newest tag, that one is returned instead.
    """
    index = writer.index
    newest = newest_tag(index)
    tables = [index.table(name) for name in DATA_TABLES]
    if newest is not None and all(_tagged(table).get(newest) == table.version for table in tables):
        return newest
    name = f"{_TAG}{now():{_TAG_TIME}}"
    for table_name in DATA_TABLES:
        with writer.changing(table_name, commits=0) as table:
            if name in _tagged(table):
                table.tags.delete(name)
            table.tags.create(name, table.version)
    return name


def newest_tag(index: Index) -> str | None:
    """The newest tag of re-indexing that both tables carry."""
    return max(_common_tags(index), default=None)


def _common_tags(index: Index) -> set[str]:
    return set(_tagged(index.table("videos"))) & set(_tagged(index.table("super_images")))


def drop_old(writer: Writer, keep: timedelta) -> None:
    """Drop tags and versions older than `keep`, but never what was newest at that time, nor the last two tags: a bad
    night can be undone, and whoever has the index open goes on.

    Files that a killed run never committed are Lance's to remove, when they are seven days old: another may be about to
    commit one that looks the same.
    """
    since = now() - keep
    kept = set(sorted(_common_tags(writer.index))[-_TAGS_KEPT:])
    for name in DATA_TABLES:
        with writer.changing(name, commits=0) as dataset:
            for old in _tagged(dataset):
                if old < f"{_TAG}{since:{_TAG_TIME}}" and old not in kept:
                    dataset.tags.delete(old)
            _drop_versions(dataset, since)
    with named(writer.index.uri):
        _drop_versions(writer.index.table("runs"), now() - max(keep, _SHORTEST_RUNS))


def _drop_versions(dataset: LanceDataset, since: datetime) -> None:
    """All before the newest version older than `since`, which readers of that time have open; none that is tagged."""
    versions = dataset.versions()
    older = [entry["version"] for entry in versions if _utc(entry["timestamp"]) < since]
    if dropped := sorted(older)[:-1]:
        dataset.cleanup_old_versions(versions=dropped, error_if_tagged_old_versions=False)


def _utc(when: Any) -> datetime:
    """Lance gives local time without saying so."""
    moment: datetime = when.astimezone(UTC)
    return moment


def _tagged(dataset: LanceDataset) -> dict[str, int]:
    """{tag of re-indexing: version}; names sort by time."""
    return {name: tag["version"] for name, tag in dataset.tags.list().items() if name.startswith(_TAG)}
