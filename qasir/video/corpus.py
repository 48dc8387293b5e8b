"""Lists the videos of a corpus: a folder, a glob, one file, or a manifest; local or on an object store."""

import csv
import json
import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs as fs
import pyarrow.parquet
from fsspec.utils import glob_translate

from qasir.errors import CorpusError
from qasir.files.readable import reason
from qasir.files.uris import is_remote

VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".f4v",
        ".flv",
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
MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl", ".parquet"})
MISSING = "missing"
"""The fingerprint of a manifest's video that is not there."""


@dataclass(frozen=True)
class VideoFile:
    """One video to encode. The fingerprint changes when the file does (size and modification time)."""

    video_id: str
    uri: str
    size_bytes: int
    fingerprint: str


@dataclass(frozen=True)
class Corpus:
    """`root` is the folder, the fixed prefix of a glob, or the manifest; `source` what was listed; videos are sorted by
    id."""

    root: str
    source: str
    videos: tuple[VideoFile, ...]


def list_videos(path: str) -> Corpus:
    """The videos that `path` names. Raises CorpusError when there are none, or when two have one id."""
    if not path.strip():
        raise CorpusError("--videos is empty: name a folder, a glob or a manifest (.csv, .jsonl, .parquet)")
    try:
        root, videos = _listed(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise CorpusError(f"cannot list {path}: {reason(error)}") from error
    if not videos:
        raise CorpusError(f"no videos in {path}")
    return Corpus(
        root,
        path if is_remote(path) else str(Path(path).absolute()),
        tuple(sorted(_unique(videos), key=lambda video: video.video_id)),
    )


def list_files(paths: Sequence[str | Path]) -> Corpus:
    """These videos, with ids relative to the folder that they have in common; one that is missing stays in the list.

    Re-indexing lists that folder, unless it is told otherwise. Raises CorpusError when there are none, when they have
    no folder in common, or when two have one id.
    """
    uris = list(dict.fromkeys(str(path) if is_remote(str(path)) else os.path.abspath(path) for path in paths))
    if not uris:
        raise CorpusError("the list of videos is empty")
    prefixes = {f"{uri.split('://', 1)[0]}://" if is_remote(uri) else "" for uri in uris}
    prefix = min(prefixes)
    folder = posixpath.commonpath([posixpath.dirname(uri[len(prefix) :]) for uri in uris]) if len(prefixes) == 1 else ""
    if not folder:
        raise CorpusError(f"{uris[0]} and {uris[-1]} have no folder in common: list them in a manifest, with ids")
    root = prefix + folder
    videos = _stat([(uri, _default_id(uri, root)) for uri in uris])
    return Corpus(root, root, tuple(sorted(_unique(videos), key=lambda video: video.video_id)))


def _listed(path: str) -> tuple[str, list[VideoFile]]:
    if _is_glob(path):
        return _from_glob(path)
    if PurePosixPath(path).suffix.lower() in MANIFEST_SUFFIXES:
        return path if is_remote(path) else str(Path(path).resolve()), _from_manifest(path)
    return _from_path(path)


def _is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[") and not (not is_remote(path) and Path(path).exists())


def _filesystem(path: str) -> tuple[fs.FileSystem, str, str]:
    """(filesystem, path in it, what to put before such a path to have a URI again)."""
    if not is_remote(path):
        return fs.LocalFileSystem(), str(Path(path).absolute()), ""
    filesystem, inner = fs.FileSystem.from_uri(path)
    scheme = path.split("://", 1)[0]
    return filesystem, inner, f"{scheme}://"


def _from_path(path: str) -> tuple[str, list[VideoFile]]:
    filesystem, inner, prefix = _filesystem(path)
    info = filesystem.get_file_info(inner)
    if info.type == fs.FileType.NotFound:
        raise CorpusError(f"no such folder or file: {path}")
    if info.type == fs.FileType.File:
        root = inner.rsplit("/", 1)[0]
        return prefix + root, [_video(info, root, prefix)]
    found = filesystem.get_file_info(fs.FileSelector(inner, recursive=True))
    videos = [_video(i, inner, prefix) for i in found if _is_file(i) and i.extension.lower() in _EXTENSIONS]
    return prefix + inner, videos


def _from_glob(path: str) -> tuple[str, list[VideoFile]]:
    filesystem, inner, prefix = _filesystem(path)
    parts = inner.split("/")
    fixed = "/".join(parts[: next(i for i, part in enumerate(parts) if any(mark in part for mark in "*?["))])
    if filesystem.get_file_info(fixed or "/").type != fs.FileType.Directory:
        raise CorpusError(f"no such folder: {prefix}{fixed} (the fixed part of {path})")
    pattern = _glob_pattern(inner)
    found = filesystem.get_file_info(fs.FileSelector(fixed or "/", recursive=True))
    return prefix + fixed, [_video(i, fixed, prefix) for i in found if _is_file(i) and pattern.fullmatch(i.path)]


def _glob_pattern(glob: str) -> re.Pattern[str]:
    """`**` spans folders, `*` and `?` stay inside a name, `[...]` is a set, `[!...]` and `[^...]` are what is not in
    it.

    fsspec's translation, which takes all but two: `[^...]`, and a `**` beside other characters of a name.
    """
    return re.compile("|".join(glob_translate(one) for one in _plainer(glob.replace("[^", "[!"))))


def _plainer(glob: str) -> list[str]:
    """Globs that together are one, each `**` between two slashes: `a**b` is `a*b`, and `a*/**/*b` in folders below."""
    mixed = re.search(r"(?<=[^/])\*\*|\*\*(?=[^/])", glob)
    if mixed is None:
        return [glob]
    before, after = glob[: mixed.start()], glob[mixed.end() :]
    return [*_plainer(f"{before}*{after}"), *_plainer(f"{before}*/**/*{after}")]


_EXTENSIONS = frozenset(suffix[1:] for suffix in VIDEO_SUFFIXES)


def _is_file(info: fs.FileInfo) -> bool:
    return info.type == fs.FileType.File and not info.base_name.startswith(".")


def _video(info: fs.FileInfo, root: str, prefix: str) -> VideoFile:
    relative = PurePosixPath(info.path).relative_to(root or "/")
    return VideoFile(str(relative.with_suffix("")), prefix + info.path, info.size, _fingerprint(info))


def _fingerprint(info: fs.FileInfo) -> str:
    return f"{info.size}-{info.mtime_ns}"


def _from_manifest(path: str) -> list[VideoFile]:
    filesystem, inner, prefix = _filesystem(path)
    if filesystem.get_file_info(inner).type != fs.FileType.File:
        raise CorpusError(f"no such manifest: {path}")
    folder = inner.rsplit("/", 1)[0]
    named = []
    for where, row in _manifest_rows(path, filesystem, inner):
        uri, video_id = row.get("uri"), row.get("video_id")
        if not isinstance(uri, str) or not uri.strip():
            raise CorpusError(f"{where}: no `uri`")
        if not is_remote(uri) and not uri.startswith("/"):
            uri = f"{prefix}{folder}/{uri}"
        named.append((uri, str(video_id) if video_id not in (None, "") else _default_id(uri, prefix + folder)))
    return _stat(named)


def _manifest_rows(path: str, filesystem: fs.FileSystem, inner: str) -> Iterable[tuple[str, dict[str, Any]]]:
    if path.lower().endswith(".parquet"):
        try:
            with filesystem.open_input_file(inner) as file:
                rows = pyarrow.parquet.read_table(file).to_pylist()
        except pyarrow.ArrowInvalid as error:
            raise CorpusError(f"{path}: not a parquet file ({reason(error)})") from None
        yield from ((f"{path}: row {i}", row) for i, row in enumerate(rows))
        return
    with filesystem.open_input_file(inner) as file:
        text = file.read().decode("utf-8-sig")
    if path.lower().endswith(".csv"):
        reader = csv.DictReader(text.splitlines())
        if "uri" not in (reader.fieldnames or ()):
            raise CorpusError(f"{path}: no column `uri` (columns are {', '.join(reader.fieldnames or ()) or 'none'})")
        yield from ((f"{path}:{reader.line_num}", row) for row in reader)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path}:{number}: not JSON ({error.msg})") from None
            if not isinstance(row, dict):
                raise CorpusError(f"{path}:{number}: not a JSON object")
            yield f"{path}:{number}", row


def _default_id(uri: str, folder: str) -> str:
    inside = uri.removeprefix(folder + "/")
    inside = inside.split("://", 1)[-1].lstrip("/")
    return str(PurePosixPath(inside).with_suffix(""))


def _stat(named: list[tuple[str, str]]) -> list[VideoFile]:
    """Look the files up; one that is missing stays in the list and becomes a failed row."""
    videos = []
    for uri, video_id in named:
        filesystem, inner, _ = _filesystem(uri)
        info = filesystem.get_file_info(inner)
        if info.type == fs.FileType.File:
            videos.append(VideoFile(video_id, uri, info.size, _fingerprint(info)))
        else:
            videos.append(VideoFile(video_id, uri, 0, MISSING))
    return videos


def _unique(videos: list[VideoFile]) -> list[VideoFile]:
    seen: dict[str, VideoFile] = {}
    for video in videos:
        other = seen.setdefault(video.video_id, video)
        if other is not video:
            raise CorpusError(
                f"two videos have the id {video.video_id!r}: {other.uri} and {video.uri}; rename one, or give ids in a "
                "manifest"
            )
    return videos
