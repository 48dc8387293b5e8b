"""Mends an index: what a power loss left, rows that do not add up, embeddings that an older version should not have
stored. What cannot be mended is encoded again by whoever asked."""

import logging
from dataclasses import dataclass, field

import lance

from qasir.errors import NoIndexError, UnreadableIndexError
from qasir.files.uris import absolute_uri
from qasir.index.damage import damaged_fragments, delete_damaged_manifests
from qasir.index.index import Index, find_table, index_of
from qasir.index.maintenance import ID_INDEX
from qasir.index.schemas import DATA_TABLES
from qasir.index.verification import broken_videos, encode_again, not_finite_videos, untimed_videos
from qasir.index.writer import Writer

log = logging.getLogger(__name__)


@dataclass
class Repaired:
    """What was mended: manifests deleted, fragments given up, indexes dropped, videos that are encoded again."""

    manifests: list[str] = field(default_factory=list)
    fragments: int = 0
    indexes: list[str] = field(default_factory=list)
    videos: int = 0


def open_damaged(uri: str) -> Index:
    """An index of which only one table may be readable, with `runs` mended, so that it can be held.

    Nobody holds an index whose `runs` cannot be read. Raises UnreadableIndexError when no version of `runs` can be,
    NoIndexError when there is none.
    """
    uri = absolute_uri(uri.rstrip("/"))
    runs = f"{uri}/runs.lance"
    _delete_manifests(runs)
    try:
        table = find_table(runs)
    except UnreadableIndexError as error:
        raise UnreadableIndexError(f"{runs} has no version that can be read: restore the folder from a copy") from error
    if table is not None and (lost := _damaged(table)):
        _forget_fragments(table, lost)
    for name in (*DATA_TABLES, "runs"):
        try:
            found = find_table(f"{uri}/{name}.lance")
        except UnreadableIndexError:
            continue
        if found is not None and (index := index_of(uri, found)) is not None:
            return index
    raise NoIndexError(f"no index at {uri}: make one with jobs/encode_corpus.py")


def mend_manifests(index: Index, done: Repaired) -> None:
    """Delete the newest manifests of the data tables that were not written whole. Only for whoever holds the index."""
    done.manifests += [path for name in DATA_TABLES for path in _delete_manifests(index.table_uri(name))]


def repair(writer: Writer, done: Repaired) -> None:
    """Give up what cannot be read, and forget every video whose rows are not what `videos` says: they are new to
    whoever compares.

    Everything is read once.
    """
    index = writer.index
    for name in DATA_TABLES:
        if lost := _damaged(index.table(name)):
            with writer.changing(name, commits=1) as table:
                _forget_fragments(table, lost)
            done.fragments += len(lost)
        done.indexes += _drop_unreadable_indexes(writer, name)
    broken = {*broken_videos(index), *not_finite_videos(index), *untimed_videos(index)}
    encode_again(writer, broken)
    done.videos = len(broken)


def _drop_unreadable_indexes(writer: Writer, name: str) -> list[str]:
    dropped = []
    for entry in writer.index.table(name).list_indices():
        try:
            writer.index.table(name).prewarm_index(entry["name"])
        except (ValueError, OSError, RuntimeError) as error:
            made = "made again" if entry["name"] == ID_INDEX else "to be made again with jobs/build_vector_index.py"
            log.warning("%s: the index %s cannot be read (%s) and is %s", name, entry["name"], error, made)
            with writer.changing(name) as table:
                table.drop_index(entry["name"])
            dropped.append(entry["name"])
    return dropped


def _delete_manifests(table_uri: str) -> list[str]:
    deleted = delete_damaged_manifests(table_uri)
    for path in deleted:
        log.warning("deleted %s, which was not written whole: the version before is the newest again", path)
    return deleted


def _damaged(table: lance.LanceDataset) -> list[int]:
    found = damaged_fragments(table)
    if found:
        log.warning("%s: %d fragments were not written whole and are given up", table.uri, len(found))
    return found


def _forget_fragments(table: lance.LanceDataset, numbers: list[int]) -> None:
    operation = lance.LanceOperation.Delete([], numbers, "fragments that were not written whole")
    lance.LanceDataset.commit(table.uri, operation, read_version=table.version)
