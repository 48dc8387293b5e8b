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
    """A picture of a folder: its name, the last number in it, and how to get its bytes (OSError)."""

    name: str
    number: int
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


def pictures_in(folder: str) -> Iterator[Picture]:
    """Those directly in a folder (a path or a URI), in no order. Raises OSError, UriError."""
    if not is_remote(folder):
        path = local_path(folder)
        for name, _, _ in _local_files(path):
            number = number_of(name)
            if number is not None:
                yield Picture(shown(name), number, _Local(os.path.join(path, name)))
        return
    store, inside = Stores().at(folder)
    for info in store.filesystem.get_file_info(fs.FileSelector(inside)):
        number = number_of(info.base_name)
        if info.type == fs.FileType.File and number is not None:
            yield Picture(info.base_name, number, _Remote(store, info.path))


def look_at(frames: FramesUri, stores: Stores | None = None) -> Look:
    """What is known of a folder of pictures: bytes in all, and a fingerprint over the rate and the names, sizes and
    times of its pictures."""
    try:
        if is_remote(frames.place):
            store, inside = (stores or Stores()).at(frames.place)
            infos = store.filesystem.get_file_info(fs.FileSelector(inside))
            found = [(each.base_name, each.size, each.mtime_ns) for each in infos if each.type == fs.FileType.File]
        else:
            found = list(_local_files(local_path(frames.place)))
    except NotADirectoryError:
        return Look.missing("a file, not a folder of pictures")
    except OSError as error:
        return Look.failed(error)
    except ValueError as error:  # UriError too, and a name that can be none
        return Look.unreachable(str(error))
    return look_of(frames, [each for each in found if number_of(each[0]) is not None])


def _local_files(folder: str) -> Iterator[tuple[str, int, int]]:
    """(name, bytes, nanoseconds) of the files called like pictures, through links too; what is no file, or a link that
    leads nowhere, is left out, as a walk leaves it out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if number_of(entry.name) is None:
                continue
            try:
                status = entry.stat()
            except OSError as error:
                if Look.failed(error).is_missing:
                    continue
                raise
            if stat.S_ISREG(status.st_mode):
                yield entry.name, status.st_size, status.st_mtime_ns


def look_of(frames: FramesUri, found: list[tuple[str, int, int]]) -> Look:
    """The same from (name, bytes, nanoseconds) of its pictures."""
    if not found:
        return Look.missing("no folder with numbered pictures")
    digest = blake2b(str(frames.rate).encode(), digest_size=8)
    for name, size, mtime_ns in sorted(found):
        digest.update(f"\0{shown(name)}\0{size}\0{mtime_ns}".encode())
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
