"""Lists the videos of a corpus: a folder, a glob, one file, or a manifest; local or on an object store."""

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as fs

from qasir.errors import CorpusError, UriError
from qasir.files.credentials import check_no_credentials
from qasir.files.readable import reason
from qasir.files.stores import Store, Stores
from qasir.files.uris import RemoteUri, is_remote, local_path, quoted_key, shown, stored_path, without_query
from qasir.video import manifest, walk
from qasir.video.frames_uri import FramesUri, frame_rate
from qasir.video.lookup import current_fingerprint, look_up
from qasir.video.manifest import Named
from qasir.video.video_file import MISSING, UNREACHABLE, VideoFile, id_of

__all__ = [
    "MISSING", "UNREACHABLE", "Corpus", "VideoFile", "current_fingerprint", "list_files", "list_videos",
]  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """`root` is the folder, the fixed prefix of a glob, or the manifest; `source` what was listed; videos are sorted by
    id.

    skipped: how many files and folders a walk left out, by why (`qasir.video.walk`).
    """

    root: str
    source: str
    videos: tuple[VideoFile, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def list_videos(path: str, *, rate: str | None = None) -> Corpus:
    """The videos that `path` names. Raises CorpusError when there are none, or when two have one id.

    rate: pictures a second, where the videos are folders of numbered pictures: those below a folder, those that a glob
    names, or those in a manifest. The source of such a corpus says it too (`qasir.video.frames_uri`), and needs none.

    Nothing that is wrong with one of them is an error: one that is missing or cannot be looked up stays in the list
    with its `problem`. Walks leave out hidden files and folders, what is no file, and folders entered before.
    """
    if not path.strip():
        raise CorpusError("--videos is empty: name a folder, a glob or a manifest (.csv, .jsonl, .parquet)")
    frames = FramesUri.parse(path)
    if rate is not None:
        frames = FramesUri(path if frames is None else frames.place, frame_rate(rate))
    path = path if frames is None else frames.place
    try:
        check_no_credentials(path)
        path = path if is_remote(path) else _absolute_path(path)
        root, videos, skipped = _listed(path, None if frames is None else frames.rate)
    except UriError as error:
        raise CorpusError(str(error)) from None
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(f"cannot list {shown(path)}: {reason(error)}") from error
    if skipped:
        left_out = ", ".join(f"{n:,} {why}" for why, n in sorted(skipped.items()))
        log.info("%s: left out %s", shown(path), left_out)
    if not videos:
        what = "videos" if frames is None else "folders of numbered pictures"
        raise CorpusError(f"no {what} in {shown(path)}")
    source = path if is_remote(path) else stored_path(path)
    return _corpus(root, source if frames is None else str(replace(frames, place=source)), videos, skipped)


def list_files(paths: Sequence[str | Path]) -> Corpus:
    """These videos, with ids relative to the folder that they have in common; one that is missing stays in the list.

    Re-indexing lists that folder, unless it is told otherwise. Raises CorpusError when there are none, when they have
    no folder in common, or when two have one id.
    """
    uris = list(dict.fromkeys(_absolute(str(path)) for path in paths))
    if not uris:
        raise CorpusError("the list of videos is empty")
    names = [_name(uri) for uri in uris]
    prefixes = {f"{uri.split('://', 1)[0]}://" if is_remote(uri) else "" for uri in uris}
    prefix = min(prefixes)
    folders = [posixpath.dirname(name[len(prefix) :]) for name in names]
    folder = posixpath.commonpath(folders) if len(prefixes) == 1 else ""
    if not folder:
        raise CorpusError(
            f"{shown(uris[0])} and {shown(uris[-1])} have no folder in common: list them in a manifest, with ids"
        )
    start = (prefix + folder).rstrip("/") + "/"
    videos = look_up([Named(uri, id_of(name.removeprefix(start))) for uri, name in zip(uris, names, strict=True)])
    root = quoted_key(prefix + folder) if prefix else stored_path(folder)
    return _corpus(root, root, videos, Counter())


def _absolute_path(path: str) -> str:
    """A local path; a slash at the end of a glob, which says that folders are meant, stays."""
    absolute = str(Path(local_path(path)).absolute())
    return absolute + "/" if walk.is_glob(path) and path.endswith("/") else absolute


def _absolute(path: str) -> str:
    try:
        check_no_credentials(path)
        return path if is_remote(path) else os.path.abspath(local_path(path))
    except UriError as error:
        raise CorpusError(str(error)) from None


def _name(uri: str) -> str:
    """A URI as its key is called, or a local path."""
    if not is_remote(uri):
        return uri
    try:
        parts = RemoteUri.parse(uri)
    except UriError as error:
        raise CorpusError(str(error)) from None
    return f"{parts.store()}/{parts.key}"


def _corpus(root: str, source: str, videos: Sequence[VideoFile], skipped: Mapping[str, int]) -> Corpus:
    unknown = [video for video in videos if video.fingerprint == UNREACHABLE]
    if unknown:
        log.warning(
            "%d of %d videos cannot be looked up, %s first (%s): what an index has of them stays",
            len(unknown), len(videos), unknown[0].uri or unknown[0].video_id, unknown[0].problem,
        )  # fmt: skip
    return Corpus(root, source, tuple(sorted(_unique(videos), key=lambda video: video.video_id)), skipped)


def _unique(videos: Sequence[VideoFile]) -> Sequence[VideoFile]:
    seen: dict[str, VideoFile] = {}
    for video in videos:
        other = seen.setdefault(video.video_id, video)
        if other is not video:
            raise CorpusError(
                f"two videos have the id {video.video_id!r}: {other.uri} and {video.uri}; rename one, or give ids in a "
                "manifest"
            )
    return videos


_Listed = tuple[str, Sequence[VideoFile], walk.Skipped]
"""(root, videos, what was left out)."""


def _listed(path: str, rate: Fraction | None) -> _Listed:
    """`path` is absolute, or the URI of an object store."""
    store, inner = Stores().at(path) if is_remote(path) else (None, path)
    if walk.is_glob(inner) and not (store is None and os.path.exists(inner)):
        return _from_glob(path, store, inner, rate)
    if manifest.suffix(path) in manifest.SUFFIXES:
        return _from_manifest(path, store, inner, rate)
    return _from_path(path, store, inner) if rate is None else _frames_below(path, store, inner, rate)


def _frames_below(path: str, store: Store | None, inner: str, rate: Fraction) -> _Listed:
    is_folder = os.path.isdir(inner) if store is None else _kind(store, inner) == fs.FileType.Directory
    if not is_folder:
        raise CorpusError(f"no such folder: {shown(path)} (a frame rate goes with folders of numbered pictures)")
    root = stored_path(inner) if store is None else without_query(store.uri(inner))
    return root, *walk.frame_folders(inner, walk.Wanted(lambda name: True), rate, store)


def _from_path(path: str, store: Store | None, inner: str) -> _Listed:
    if store is None and os.path.isdir(inner):
        return stored_path(inner), *walk.local_videos(inner, walk.Wanted(walk.has_video_suffix))
    if store is None:
        (video,) = look_up([Named(inner, id_of(posixpath.basename(inner)))])
        if video.problem is not None:
            what = "no such folder or file" if video.fingerprint == MISSING else video.problem
            raise CorpusError(f"{what}: {shown(path)}")
        return stored_path(posixpath.dirname(inner)), [video], Counter()
    kind = _kind(store, inner)
    if kind == fs.FileType.Directory:
        root = without_query(store.uri(inner))
        return root, *walk.remote_videos(store, inner, walk.Wanted(walk.has_video_suffix))
    if kind != fs.FileType.File:
        raise CorpusError(f"no such folder or file: {path}")
    folder = posixpath.dirname(inner)
    name = posixpath.basename(inner)
    return without_query(store.uri(folder)), look_up([Named(path, id_of(name))]), Counter()


def _from_glob(path: str, store: Store | None, inner: str, rate: Fraction | None) -> _Listed:
    if inner.endswith("/") and rate is None:
        raise CorpusError(f"{shown(path)} names folders: for folders of numbered pictures give --frame-rate")
    glob = walk.Glob.parse(inner if rate is None else inner.rstrip("/") + "/*")
    folder = glob.folder or "/"
    is_folder = os.path.isdir(folder) if store is None else _kind(store, folder) == fs.FileType.Directory
    root = stored_path(glob.folder) if store is None else without_query(store.uri(folder))
    if not is_folder:
        raise CorpusError(f"no such folder: {root} (the fixed part of {shown(path)})")
    if rate is not None:
        return root, *walk.frame_folders(folder, glob.wanted, rate, store)
    if store is None:
        return root, *walk.local_videos(folder, glob.wanted)
    return root, *walk.remote_videos(store, folder, glob.wanted)


def _from_manifest(path: str, store: Store | None, inner: str, rate: Fraction | None) -> _Listed:
    is_file = os.path.isfile(inner) if store is None else _kind(store, inner) == fs.FileType.File
    if not is_file:
        raise CorpusError(f"no such manifest: {shown(path)}")
    if store is None:
        with open(inner, "rb") as file:
            named = _of_frames(manifest.named_by(path, file, folders=rate is not None), rate)
        return stored_path(str(Path(path).resolve())), look_up(named), Counter()
    with store.filesystem.open_input_file(inner) as remote:
        named = _of_frames(manifest.named_by(path, cast(BinaryIO, remote), folders=rate is not None), rate)
    return without_query(path), look_up(named), Counter()


def _of_frames(named: list[Named], rate: Fraction | None) -> list[Named]:
    """The rows of a manifest as folders of pictures, where there is a rate."""
    if rate is None:
        return named
    return [
        each if each.problem is not None else replace(each, uri=str(FramesUri.of_folder(each.uri, rate)))
        for each in named
    ]


def _kind(store: Store, inner: str) -> fs.FileType:
    return store.filesystem.get_file_info(inner).type
