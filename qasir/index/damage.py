"""Finds the files of a Lance table that a power loss left empty or cut: Lance does not sync what it writes.

An object store has a file whole or not at all; a disk may have a name without its content. A file counts as damaged by
what it is, never by an error in reading it, which may be a network's.
"""

import posixpath

import lance
import pyarrow.fs as fs

from qasir.files.uris import is_remote

_MAGIC = b"LANC"
"""What every whole manifest and data file ends with."""
_NEWEST = (1 << 64) - 1
_DIGITS = 20


def damaged_manifests(table_uri: str) -> list[str]:
    """The manifests of a table, newest first, that come before the newest one that is whole."""
    filesystem, folder = _filesystem(table_uri)
    damaged = []
    for path in _manifests(filesystem, folder):
        if _is_whole(filesystem, path):
            break
        damaged.append(path)
    return damaged


def delete_damaged_manifests(table_uri: str) -> list[str]:
    """Delete them, so that the version before is the newest; returns what was deleted. A table with no whole manifest
    is left as it is."""
    filesystem, folder = _filesystem(table_uri)
    damaged = damaged_manifests(table_uri)
    if len(damaged) == len(_manifests(filesystem, folder)):
        return []
    for path in damaged:
        filesystem.delete_file(path)
    return damaged


def damaged_fragments(table: lance.LanceDataset) -> list[int]:
    """Fragments with a file that is missing, not as long as its manifest says, cut, or, on a disk, not to be decoded:
    everything is read."""
    filesystem, folder = _filesystem(table.uri)
    found = []
    for fragment in table.get_fragments():
        sizes = {posixpath.join(folder, "data", file.path): file.file_size_bytes for file in fragment.metadata.files}
        is_whole = all(_is_whole(filesystem, path, size) for path, size in sizes.items())
        if not is_whole or not (is_remote(table.uri) or _decodes(fragment)):
            found.append(fragment.fragment_id)
    return found


def _decodes(fragment: lance.LanceFragment) -> bool:
    try:
        for _ in fragment.scanner().to_batches():
            pass
    except (ValueError, OSError, RuntimeError):
        return False
    return True


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    return fs.FileSystem.from_uri(uri) if is_remote(uri) else (fs.LocalFileSystem(), uri)


def _manifests(filesystem: fs.FileSystem, folder: str) -> list[str]:
    """The paths of a table's manifests, newest first. A name is a version, or, so that a listing begins with the
    newest, what is left to 2^64 - 1."""
    files = filesystem.get_file_info(fs.FileSelector(posixpath.join(folder, "_versions"), allow_not_found=True))
    found: list[tuple[int, str]] = []
    for file in files:
        stem, _, suffix = file.base_name.partition(".")
        if suffix == "manifest" and stem.isdigit():
            number = int(stem)
            found.append((_NEWEST - number if len(stem) == _DIGITS else number, file.path))
    return [path for _, path in sorted(found, reverse=True)]


def _is_whole(filesystem: fs.FileSystem, path: str, size: int | None = None) -> bool:
    info = filesystem.get_file_info(path)
    if info.type != fs.FileType.File or info.size < len(_MAGIC) or (size is not None and info.size != size):
        return False
    with filesystem.open_input_file(path) as file:
        return bool(file.read_at(len(_MAGIC), info.size - len(_MAGIC)) == _MAGIC)
