"""Walks a folder, or the folders that a glob can match; local or on an object store."""

import heapq
import itertools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import pyarrow.fs as fs
from fsspec.utils import glob_translate

from qasir.errors import CorpusError
from qasir.files.stores import Store
from qasir.files.uris import shown, stored_path
from qasir.video.frames_uri import FramesUri
from qasir.video.pictures_in import look_of, number_of
from qasir.video.video_file import Look, VideoFile, id_of

VIDEO_SUFFIXES = frozenset(
    [
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".m2t",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogm",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    ]
)
"""What counts as a video when a folder is searched; a glob or a manifest may name anything."""
HIDDEN_FOLDERS, HIDDEN_FILES = "hidden folders", "hidden files"
ENTERED_BEFORE, NO_FILES = "folders entered before", "broken links, pipes and devices"
"""What a walk leaves out."""

Skipped = Counter[str]


@dataclass(frozen=True)
class Wanted:
    """Which files below a folder are listed, and which folders are looked into; paths are relative to it."""

    file: Callable[[str], bool]
    folder: Callable[[str], bool] = field(default=lambda path: True)
    deep: bool = True  # False: no folder below is looked into


def has_video_suffix(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in VIDEO_SUFFIXES


def local_videos(root: str, wanted: Wanted) -> tuple[list[VideoFile], Skipped]:
    """The files below a local folder, and how many were left out, by why.

    No folder is entered twice, whatever links lead to it: the path without links counts, or else the first in order.
    Raises CorpusError for a folder that cannot be read: what it holds must not be taken for removed.
    """
    start = root if root.endswith("/") else root + "/"
    skipped: Skipped = Counter()
    videos = []
    for path, look in _files(start, wanted, skipped):
        videos.append(look.video(id_of(path), stored_path(start + path)))
    return videos, skipped


def _files(start: str, wanted: Wanted, skipped: Skipped) -> Iterator[tuple[str, Look]]:
    entered = {_identity(os.stat(start))}
    folders, linked = [""], list[str]()  # paths that end in a slash; links are followed when all else is seen
    while folders or linked:
        folder = folders.pop() if folders else heapq.heappop(linked)
        if folder and not _enter(start + folder, entered, skipped):
            continue
        inside = []
        for entry in _entries(start + folder, is_root=not folder):
            path = folder + entry.name
            is_wanted = wanted.file(path)
            if _leads_to_folder(entry, is_wanted):
                if entry.name.startswith("."):
                    skipped[HIDDEN_FOLDERS] += 1
                elif wanted.deep and wanted.folder(path):
                    if entry.is_symlink():
                        heapq.heappush(linked, path + "/")
                    else:
                        inside.append(path + "/")
            elif is_wanted:
                if entry.name.startswith("."):
                    skipped[HIDDEN_FILES] += 1
                elif (look := _look(entry, skipped)) is not None:
                    yield path, look
        folders += sorted(inside, reverse=True)


def _enter(path: str, entered: set[tuple[int, int]], skipped: Skipped) -> bool:
    """Whether a folder is there and was not entered before."""
    try:
        identity = _identity(os.stat(path))
    except OSError as error:
        if _is_gone(error):
            return False
        raise _unreadable(path, error) from None
    if identity in entered:
        skipped[ENTERED_BEFORE] += 1
        return False
    entered.add(identity)
    return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _entries(path: str, *, is_root: bool) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from entries
    except OSError as error:
        if is_root or not _is_gone(error):
            raise _unreadable(path, error) from None


def _is_gone(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def _unreadable(path: str, error: OSError) -> CorpusError:
    return CorpusError(
        f"cannot read the folder {shown(path)}: {error.strerror}; nothing was done, lest its videos be taken for "
        "removed: make it readable, or leave it out by a glob or a name that begins with a dot"
    )


def _leads_to_folder(entry: os.DirEntry[str], is_wanted: bool) -> bool:
    """Whether an entry is a folder or a link to one. Raises CorpusError where that cannot be told of a link, unless it
    is called like a file."""
    try:
        return entry.is_dir()
    except OSError as error:
        if is_wanted or Look.failed(error).is_missing:
            return False
        raise _unreadable(entry.path, error) from None


def _look(entry: os.DirEntry[str], skipped: Skipped) -> Look | None:
    """What is known of a file; None for what is no file or gone meanwhile."""
    try:
        look = Look.at(entry.stat())
    except OSError as error:
        look = Look.failed(error)
        if look.is_missing and not entry.is_symlink():
            return None
    if look.is_missing:
        skipped[NO_FILES] += 1
        return None
    return look


def remote_videos(store: Store, root: str, wanted: Wanted) -> tuple[list[VideoFile], Skipped]:
    """The same of a path in an object store, which has no links. Raises OSError when it cannot be listed."""
    start = root.rstrip("/") + "/"
    skipped: Skipped = Counter()
    found = _remote_files(store, start, wanted, skipped)
    return [look.video(id_of(path), store.uri(start + path)) for path, look in found], skipped


def frame_folders(
    root: str, wanted: Wanted, rate: Fraction, store: Store | None = None
) -> tuple[list[VideoFile], Skipped]:
    """The folders below `root`, itself too, that hold wanted pictures with numbers, as videos of so many pictures a
    second. Raises as `local_videos` and `remote_videos` do."""
    pictures = replace(wanted, file=lambda path: number_of(posixpath.basename(path)) is not None and wanted.file(path))
    start = root.rstrip("/") + "/"
    skipped: Skipped = Counter()
    files = _files(start, pictures, skipped) if store is None else _remote_files(store, start, pictures, skipped)
    videos = []
    for folder, inside in itertools.groupby(files, key=lambda found: posixpath.dirname(found[0])):
        below = start + (folder + "/" if folder else "")
        frames = FramesUri.of_folder(stored_path(below) if store is None else store.uri(below), rate)
        looks = [(posixpath.basename(path), *_size_and_time(look)) for path, look in inside]
        name = shown(folder or posixpath.basename(root.rstrip("/")) or "frames")
        videos.append(look_of(frames, looks).video(name, str(frames)))
    return videos, skipped


def _remote_files(store: Store, start: str, wanted: Wanted, skipped: Skipped) -> Iterator[tuple[str, Look]]:
    infos = store.filesystem.get_file_info(fs.FileSelector(start.rstrip("/"), recursive=wanted.deep))
    for info in sorted(infos, key=lambda info: (posixpath.dirname(info.path), info.path)):
        path = info.path.removeprefix(start)
        if info.type == fs.FileType.File and wanted.file(path):
            if path.startswith(".") or "/." in path:
                skipped[HIDDEN_FILES] += 1
            else:
                yield path, Look.of(info.size, info.mtime_ns)


def _size_and_time(look: Look) -> tuple[int, int]:
    size, _, time_ns = look.fingerprint.partition("-")
    return int(size), int(time_ns)


@dataclass(frozen=True)
class Glob:
    """A glob: the folder that its fixed part names, and what is wanted below that."""

    folder: str
    wanted: Wanted

    @classmethod
    def parse(cls, glob: str) -> "Glob":
        """`**` spans folders, `*` and `?` stay inside a name, `[...]` is a set, `[!...]` and `[^...]` are what is not
        in it."""
        parts = glob.replace("[^", "[!").split("/")
        n_fixed = next(i for i, part in enumerate(parts) if is_glob(part))
        below = parts[n_fixed:]
        pattern = re.compile("|".join(glob_translate(one) for one in _plainer("/".join(below))))
        n_plain = next((i for i, part in enumerate(below) if "**" in part), len(below))
        levels = [re.compile(glob_translate(part)) for part in below[: min(n_plain, len(below) - 1)]]

        def leads_on(folder: str) -> bool:
            names = folder.split("/")
            if n_plain == len(below) and len(names) >= len(below):
                return False
            return all(level.fullmatch(name) for level, name in zip(levels, names, strict=False))

        wanted = Wanted(lambda path: pattern.fullmatch(path) is not None, leads_on, deep=len(below) > 1 or n_plain == 0)
        return cls("/".join(parts[:n_fixed]), wanted)


def is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[")


def _plainer(glob: str) -> list[str]:
    """Globs that together are one, each `**` between two slashes: `a**b` is `a*b`, and `a*/**/*b` in folders below.

    fsspec's translation takes no `**` beside other characters of a name.
    """
    mixed = re.search(r"(?<=[^/])\*\*|\*\*(?=[^/])", glob)
    if mixed is None:
        return [glob]
    before, after = glob[: mixed.start()], glob[mixed.end() :]
    return [*_plainer(f"{before}*{after}"), *_plainer(f"{before}*/**/*{after}")]
