"""Looks up videos that are named one by one: local ones in turn, those on object stores many at once."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow.fs as fs

from qasir.errors import UriError
from qasir.files.credentials import redacted
from qasir.files.readable import reason
from qasir.files.stores import Stores
from qasir.files.uris import is_remote, local_path, shown, stored_path
from qasir.video.frames_uri import FramesUri
from qasir.video.manifest import Named
from qasir.video.pictures_in import look_at
from qasir.video.video_file import Look, VideoFile

THREADS = 64
"""Requests to a store at once. Each row is asked for by itself, not found in a listing of its folder: what that costs
depends on the rows alone, not on what else the folder holds."""
FIRST = 128
"""When not one of so many can be looked up, the others of that store are not tried."""


def look_up(named: Sequence[Named], *, threads: int = THREADS) -> list[VideoFile]:
    """These videos in their order. One that is missing, or of which nothing can be said, stays in the list, with the
    reason."""
    looks: dict[int, Look] = {}
    pictures_on = Stores()
    stores: dict[tuple[str, ...], list[int]] = {}
    for i, video in enumerate(named):
        if video.problem is not None:
            looks[i] = Look.unreachable(video.problem)
        elif (frames := FramesUri.parse(video.uri)) is not None:
            looks[i] = look_at(frames, pictures_on)
        elif is_remote(video.uri):
            stores.setdefault(tuple(video.uri.split("/", 3)[:3]), []).append(i)
        else:
            looks[i] = _local(video.uri)
    with ThreadPoolExecutor(threads) as pool:
        remote = _Remote(pool, threads)
        for members in stores.values():
            looks |= zip(members, remote.looks([named[i].uri for i in members]), strict=True)
    return [looks[i].video(video.video_id, _stored(video.uri)) for i, video in enumerate(named)]


def current_fingerprint(uri: str, stores: Stores | None = None) -> str:
    """The fingerprint that a video has now, MISSING when it is gone. Raises OSError when that cannot be told.

    stores: kept by who asks often.
    """
    frames = FramesUri.parse(uri)
    if frames is not None:
        look = look_at(frames, stores)
    else:
        look = _remote(stores or Stores(), uri) if is_remote(uri) else _local(uri)
    if not look.is_known:
        raise OSError(look.problem)
    return look.fingerprint


def _stored(uri: str) -> str:
    """What is written down of a video's place."""
    frames = FramesUri.parse(uri)
    if frames is not None:
        return str(replace(frames, place=_stored(frames.place)))
    if is_remote(uri):
        return shown(redacted(uri))
    try:
        return stored_path(local_path(uri))
    except (UriError, UnicodeEncodeError):  # it names a host, or is no text; it is never opened
        return shown(redacted(uri))


def _local(uri: str) -> Look:
    try:
        return Look.at(os.stat(local_path(uri)))
    except OSError as error:
        return Look.failed(error)
    except UriError as error:
        return Look.unreachable(str(error))
    except ValueError:  # a NUL, or a lone surrogate that stands for no byte
        return Look.missing(f"{shown(uri)} can be no file's name")


class _Remote:
    """Looks up videos of a store, many at once."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int) -> None:
        self._pool = pool
        self._threads = threads
        self._stores = Stores(connections=threads)

    def looks(self, uris: Sequence[str]) -> list[Look]:
        first = self._at_once(uris[:FIRST])
        rest = uris[FIRST:]
        if rest and not any(look.is_known for look in first):
            why = Look.unreachable(f"not looked up, as none of {len(first)} others there could be: {first[0].problem}")
            return [*first, *(why for _ in rest)]
        return [*first, *self._at_once(rest)]

    def _at_once(self, uris: Sequence[str]) -> list[Look]:
        looks: list[Look | None] = [None] * len(uris)

        def some(start: int) -> None:
            for i in range(start, len(uris), self._threads):
                looks[i] = _remote(self._stores, uris[i])

        for _ in self._pool.map(some, range(min(self._threads, len(uris)))):
            pass
        return [look for look in looks if look is not None]


def _remote(stores: Stores, uri: str) -> Look:
    try:
        store, path = stores.at(uri)
        info = store.filesystem.get_file_info(path)
    except (OSError, ValueError, NotImplementedError) as error:  # UriError and ArrowInvalid are ValueErrors
        return Look.unreachable(reason(error))
    if info.type == fs.FileType.File:
        return Look.of(info.size, info.mtime_ns)
    return Look.missing("no such file" if info.type == fs.FileType.NotFound else "a folder")
