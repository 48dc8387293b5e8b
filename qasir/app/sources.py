"""Opens the file of a video, local or on an object store, to be read by ranges."""

import os
import posixpath
from pathlib import Path
from typing import Any

import pyarrow.fs as fs

from qasir.app.catalogue import StoredVideo
from qasir.app.errors import NotFoundError
from qasir.errors import StorageError
from qasir.files.readable import reason
from qasir.files.stores import Stores
from qasir.files.uris import is_remote, local_path, without_query
from qasir.video.frames_uri import FramesUri
from qasir.video.pictures_in import look_at
from qasir.video.video_file import Look, is_same_version

CONTENT_TYPES = {
    ".3gp": "video/3gpp", ".asf": "video/x-ms-asf", ".avi": "video/x-msvideo", ".f4v": "video/mp4",
    ".flv": "video/x-flv", ".m2ts": "video/mp2t", ".m2v": "video/mpeg", ".m4v": "video/mp4",
    ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".mp4": "video/mp4", ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg", ".mts": "video/mp2t", ".mxf": "application/mxf", ".ogm": "video/ogg", ".ogv": "video/ogg",
    ".ts": "video/mp2t", ".webm": "video/webm", ".wmv": "video/x-ms-wmv",
}  # fmt: skip
"""By the file's suffix; anything else is OTHER_TYPE, and nothing is ever text."""
OTHER_TYPE = "application/octet-stream"


class Source:
    """The open file of a video. Reads block, and one source is read by one thread at a time.

    Raises NotFoundError when the file is gone, StorageError when it cannot be had.
    """

    def __init__(self, video: StoredVideo, stores: Stores) -> None:
        self.video = video
        try:
            self._file, look = _opened(video.uri, stores)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"{video.video_id}: its file is gone") from None
        except (OSError, ValueError, NotImplementedError) as error:
            raise StorageError(f"{video.video_id}: its file cannot be read: {_why(error)}") from None
        if look.problem is not None:
            raise NotFoundError(f"{video.video_id}: its file is gone ({look.problem})")
        if look.size_bytes == 0:
            self.close()
            raise NotFoundError(f"{video.video_id}: its file is gone (it is empty)")
        self.size = look.size_bytes
        self.fingerprint = look.fingerprint

    @property
    def has_bytes(self) -> bool:
        """Whether it is one file, which can be read, and no folder of pictures."""
        return self._file is not None

    @property
    def is_changed(self) -> bool:
        """Whether the file is not the one that was indexed, so that times may be off."""
        return not is_same_version(self.video.uri, self.fingerprint, self.video.fingerprint)

    @property
    def content_type(self) -> str:
        path = without_query(self.video.uri) if is_remote(self.video.uri) else self.video.uri
        return CONTENT_TYPES.get(posixpath.splitext(path)[1].lower(), OTHER_TYPE)

    def read(self, start: int, n_bytes: int) -> bytes:
        """Up to `n_bytes` from `start`; fewer, or none, when the file became shorter. Raises StorageError."""
        try:
            self._file.seek(start)
            return bytes(self._file.read(n_bytes))
        except (OSError, ValueError) as error:
            raise StorageError(f"{self.video.video_id}: its file cannot be read: {_why(error)}") from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class StoredFile:
    """An open file of the server's own. Raises FileNotFoundError when it is gone."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, n_bytes: int) -> bytes:
        return os.pread(self._file.fileno(), n_bytes, start)

    def close(self) -> None:
        self._file.close()


def _opened(uri: str, stores: Stores) -> tuple[Any, Look]:
    frames = FramesUri.parse(uri)
    if frames is not None:
        return None, look_at(frames, stores)
    return _remote(uri, stores) if is_remote(uri) else _local(uri)


def _local(uri: str) -> tuple[Any, Look]:
    # Not to wait for a writer, should there be a pipe by now.
    descriptor = os.open(local_path(uri), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    look = Look.at(os.fstat(descriptor))
    if look.problem is not None:
        os.close(descriptor)
        return None, look
    return os.fdopen(descriptor, "rb", buffering=0), look


def _remote(uri: str, stores: Stores) -> tuple[Any, Look]:
    store, path = stores.at(uri)
    info = store.filesystem.get_file_info(path)
    if info.type != fs.FileType.File:
        return None, Look.missing("no such file" if info.type == fs.FileType.NotFound else "a folder")
    return store.filesystem.open_input_file(path), Look.of(info.size, info.mtime_ns)


def _why(error: BaseException) -> str:
    """Without the path, which is not everybody's business."""
    return getattr(error, "strerror", None) or reason(error)
