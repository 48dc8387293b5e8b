"""The numbered pictures of a folder, local or on an object store."""

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import pyarrow.fs as fs

from qasir.files.stores import Store, Stores
from qasir.files.uris import is_remote, local_path, shown
from qasir.video.frames_uri import FramesUri
from qasir.video.picture import MAX_PICTURE_BYTES
from qasir.video.video_file import Look

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_NUMBER = re.compile(r"[0-9]+")
_MOST_DIGITS = 18
"""Of a number in a name: more are a hash or a date with everything, and no place in a video."""


@dataclass(frozen=True)
class Picture:
    """A picture of a folder: its name, the last number in it, what its file says, and how to get its bytes
    (OSError)."""

    name: str
    number: int
    size_bytes: int
    mtime_ns: int
    read: Callable[[], bytes]

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1].lower().lstrip(".")


def number_of(name: str) -> int | None:
    """The last number in the name of a picture; None for what is no numbered picture, and for hidden files."""
    stem, suffix = posixpath.splitext(name)
    digits = _NUMBER.findall(stem)
    if name.startswith(".") or suffix.lower() not in SUFFIXES or not digits or len(digits[-1]) > _MOST_DIGITS:
        return None
    return int(digits[-1])


def pictures_in(folder: str, stores: Stores | None = None) -> Iterator[Picture]:
    """Those directly in a folder (a path or a URI), in no order. What is no file, or a link that leads nowhere, is left
    out, as a walk leaves it out. Raises OSError, UriError."""
    if is_remote(folder):
        store, inside = (stores or Stores()).at(folder)
        for info in store.filesystem.get_file_info(fs.FileSelector(inside)):
            number = number_of(info.base_name)
            if info.type == fs.FileType.File and number is not None:
                yield Picture(info.base_name, number, info.size, info.mtime_ns, _Remote(store, info.path))
        return
    with os.scandir(local_path(folder)) as entries:
        for entry in entries:
            number = number_of(entry.name)
            if number is None or (status := _status(entry)) is None or not stat.S_ISREG(status.st_mode):
                continue
            yield Picture(shown(entry.name), number, status.st_size, status.st_mtime_ns, _Local(entry.path))


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of what it leads to; None where that is not there."""
    try:
        return entry.stat()
    except OSError as error:
        if Look.failed(error).is_missing:
            return None
        raise


def look_at(frames: FramesUri, stores: Stores | None = None) -> Look:
    """What is known of a folder of pictures: bytes in all, and a fingerprint over the rate and the names, sizes and
    times of its pictures."""
    try:
        found = [(each.name, each.size_bytes, each.mtime_ns) for each in pictures_in(frames.place, stores)]
    except NotADirectoryError:
        return Look.missing("a file, not a folder of pictures")
    except OSError as error:
        return Look.failed(error)
    except ValueError as error:  # UriError too, and a name that can be none
        return Look.unreachable(str(error))
    return look_of(frames, found)


def look_of(frames: FramesUri, found: list[tuple[str, int, int]]) -> Look:
    """The same from (name, bytes, nanoseconds) of its pictures."""
    if not found:
        return Look.missing("no folder with numbered pictures")
    digest = blake2b(str(frames.rate).encode(), digest_size=8)
    for name, size, mtime_ns in sorted((shown(name), *about) for name, *about in found):
        digest.update(f"\0{name}\0{size}\0{mtime_ns}".encode())
    size_bytes = sum(size for _, size, _ in found)
    latest = max(mtime_ns for _, _, mtime_ns in found)
    return Look(size_bytes, f"{size_bytes}-{latest}-{digest.hexdigest()}")


@dataclass(frozen=True)
class _Local:
    path: str

    def __call__(self) -> bytes:
        with Path(self.path).open("rb") as file:
            return file.read(MAX_PICTURE_BYTES + 1)


@dataclass(frozen=True)
class _Remote:
    store: Store
    path: str

    def __call__(self) -> bytes:
        with self.store.filesystem.open_input_file(self.path) as file:
            content: bytes = file.read(MAX_PICTURE_BYTES + 1)
            return content
