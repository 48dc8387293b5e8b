"""Opens videos by path or URI, and knows what a container says of its own completeness."""

import os
from typing import Any

import av
import av.error

from qasir.errors import UriError, VideoError
from qasir.files.stores import Stores
from qasir.files.uris import is_remote, local_path

_RANGE_BYTES = 1 << 20
"""What one request to an object store reads."""


def open_container(uri: str) -> Any:
    """An open PyAV container. Remote files are read by ranges. Raises VideoError ("io" or "not_a_video")."""
    try:
        if is_remote(uri):
            return av.open(_open_bytes(uri), buffer_size=_RANGE_BYTES)
        # An explicit protocol, so that a name with a colon is still a name.
        return av.open(f"file:{local_path(uri)}", options={"protocol_whitelist": "file"})
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise VideoError("not_a_video", message(error)) from None
    except (OSError, UriError, av.error.FFmpegError) as error:
        raise VideoError("io", message(error)) from None


def _open_bytes(uri: str) -> Any:
    if not is_remote(uri):
        return open(local_path(uri), "rb")
    store, path = Stores().at(uri)
    return store.filesystem.open_input_file(path)


def matroska_is_cut(uri: str) -> bool:
    """Whether the file ends before the size its segment states (RFC 8794, RFC 9559); FFmpeg passes over this
    silently."""
    with _open_bytes(uri) as file:
        head = file.read(4096)
        file.seek(0, os.SEEK_END)
        n_bytes = file.tell()
    size, at = _ebml_size(head, 4)
    at += size
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return False
    size, start = _ebml_size(head, at + 4)
    return size >= 0 and start + size > n_bytes


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length size at `at` and where it ends; -1 stands for "unknown" (all ones: a live stream)."""
    length = 9 - data[at].bit_length() if data[at] else 9
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return (-1 if unknown else value), at + length


def message(error: BaseException) -> str:
    """The decoder's own words, without the path that the row already has."""
    if isinstance(error, av.error.FFmpegError):
        last = error.log[1] if error.log else None
        detail = f" ({last[1]}: {last[2].strip()})" if last else ""
        return f"{error.strerror}{detail}"
    return getattr(error, "strerror", None) or str(error)
