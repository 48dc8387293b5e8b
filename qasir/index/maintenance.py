"""Keeps an index in shape over months of runs: compaction, vector indexes, tags, and the removal of what is out of use.

Only for whoever holds the index (`qasir.index.lease`): nobody else may be writing.

By Lance itself: LanceDB's `optimize` (0.40) has no say in how large fragments become or how many deleted rows are too
many, and refuses to drop old versions as soon as one of them is tagged, which the last re-indexing always is.
"""

from collections.abc import Mapping
from datetime import timedelta

from lance import LanceDataset

from qasir.index.index import Index, now
from qasir.index.schemas import ENCODED

DATA_TABLES = ("videos", "super_images")
TIDIED = "orphans_deleted"
"""What a run's counts have when it tidied up."""
_TAG = "reindex-"
_TAG_TIME = "%Y%m%dT%H%M%SZ"
_ROWS_A_FRAGMENT = (
    1 << 16
)  # about 1 GB with thumbnails and cells; larger ones would be rewritten for every small change
_SMALL_FRAGMENTS = 64
_DELETED_SHARE = 0.1
_SHORTEST_RUNS = timedelta(hours=1)


def compact(index: Index, *names: str, most: int = _SMALL_FRAGMENTS) -> None:
    """Merge a table's small fragments where there are more than `most`, and rewrite those with many deleted rows."""
    for name in names:
        dataset = index.table(name)
        small = 0
        worn = False
        for fragment in dataset.get_fragments():
            n_rows = fragment.metadata.physical_rows
            small += n_rows < _ROWS_A_FRAGMENT
            worn |= fragment.num_deletions > _DELETED_SHARE * n_rows
        if small > most or worn:
            dataset.optimize.compact_files(
                target_rows_per_fragment=_ROWS_A_FRAGMENT, materialize_deletions_threshold=_DELETED_SHARE
            )


def tidy(index: Index, planned: Mapping[str, str]) -> int:
    """Delete the super images that nobody can read or will need, and return how many there were: what runs leave that are killed
    between the switch of a video and the deletion of its old rows, or while they remove one.

    planned: {video_id: fingerprint} of the videos about to be encoded, of which what is there is kept.
    """
    rows = index.table("super_images").to_table(columns=["video_id", "fingerprint"])
    versions = rows.group_by(["video_id", "fingerprint"]).aggregate([([], "count_all")])
    current = {video_id: s.fingerprint for video_id, s in index.states().items() if s.status == ENCODED}
    orphans = [
        row
        for row in versions.to_pylist()
        if row["fingerprint"] not in (current.get(row["video_id"]), planned.get(row["video_id"]))
    ]
    index.delete_versions([(row["video_id"], row["fingerprint"]) for row in orphans])
    return sum(row["count_all"] for row in orphans)


def update_vector_index(index: Index) -> None:
    """Bring the indexes on `super_images` and `videos`, if there are any, up to date with their rows."""
    for name in DATA_TABLES:
        dataset = index.table(name)
        if dataset.list_indices():
            dataset.optimize.optimize_indices()


def tag(index: Index) -> str:
    """Tag the present versions of `videos` and `super_images` with one name, and return it.

    When nothing changed since the newest tag, that one is returned instead.
    """
    newest = newest_tag(index)
    tables = [index.table(name) for name in DATA_TABLES]
    if newest is not None and all(_tagged(table).get(newest) == table.version for table in tables):
        return newest
    name = f"{_TAG}{now():{_TAG_TIME}}"
    for table in tables:
        known = _tagged(table)
        if name in known:
            table.tags.delete(name)
        table.tags.create(name, table.version)
    return name


def newest_tag(index: Index) -> str | None:
    """The newest tag of re-indexing that both tables carry."""
    common = set(_tagged(index.table("videos"))) & set(_tagged(index.table("super_images")))
    return max(common, default=None)


def drop_old(index: Index, keep: timedelta) -> None:
    """Drop tags and versions older than `keep`, and files that a killed run wrote and never committed."""
    oldest = f"{_TAG}{now() - keep:{_TAG_TIME}}"
    newest = newest_tag(index)
    for name in DATA_TABLES:
        dataset = index.table(name)
        for old in _tagged(dataset):
            if old < oldest and old != newest:
                dataset.tags.delete(old)
        dataset.cleanup_old_versions(older_than=keep, delete_unverified=True, error_if_tagged_old_versions=False)
    # A heartbeat may be writing a file of `runs` at this moment: only what it has committed may be judged.
    index.table("runs").cleanup_old_versions(older_than=max(keep, _SHORTEST_RUNS))


def _tagged(dataset: LanceDataset) -> dict[str, int]:
    """{tag of re-indexing: version}; names sort by time."""
    return {name: tag["version"] for name, tag in dataset.tags.list().items() if name.startswith(_TAG)}
