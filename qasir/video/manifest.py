"""Reads manifests: .csv, .jsonl and .parquet files with a `uri` and, if wanted, a `video_id` a row."""

import codecs
import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet

from qasir.errors import CorpusError
from qasir.files.credentials import redacted
from qasir.files.uris import RemoteUri, is_remote, shown, without_query
from qasir.video.video_file import id_of

SUFFIXES = frozenset({".csv", ".jsonl", ".parquet"})

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, which begins alike
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
Rows = Iterator[tuple[int, dict[str, Any]]]
"""(line, or row of a parquet file; its columns)."""


@dataclass(frozen=True)
class Named:
    """A video that somebody names: `uri` is a local path or a URI, as `qasir.files.uris` reads them; `problem` says why
    there is nothing to look up."""

    uri: str
    video_id: str
    problem: str | None = None


def named_by(manifest: str, file: BinaryIO, *, folders: bool = False) -> list[Named]:
    """The videos of a manifest (an absolute path or a URI), read from `file`.

    Relative ones are names of files beside it. An id that is not given is the path relative to the manifest's folder,
    or what follows the `://`, without suffix, but with all of it where rows name folders; of a row that names nothing
    it is the manifest's name and the line.
    Raises CorpusError, naming the line, for a file that is malformed.
    """
    beside = _Beside.manifest(manifest)
    rows = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}[suffix(manifest)]
    name = shown if folders else id_of
    return [_named(row, beside, number, name) for number, row in rows(shown(manifest), file)]


def suffix(path: str) -> str:
    return posixpath.splitext(without_query(path) if is_remote(path) else path)[1].lower()


@dataclass(frozen=True)
class _Beside:
    """Where a manifest lies. `prefix` is what the absolute names of files there begin with."""

    name: str
    prefix: str
    remote: RemoteUri | None

    @classmethod
    def manifest(cls, uri: str) -> "_Beside":
        folder, name = posixpath.split(without_query(uri) if is_remote(uri) else uri)
        return cls(shown(name), folder + "/", RemoteUri.parse(uri) if is_remote(uri) else None)

    def uri(self, name: str) -> str:
        """Where a file beside it is."""
        if self.remote is not None:
            return self.remote.with_key(posixpath.join(posixpath.dirname(self.remote.key), name))
        return self.prefix + name


def _named(row: dict[str, Any], beside: _Beside, number: int, name: Callable[[str], str]) -> Named:
    uri, video_id = row.get("uri"), row.get("video_id")
    given = shown(str(video_id)) if video_id not in (None, "") else ""
    if not isinstance(uri, str) or not uri.strip():
        return Named("", given or f"{beside.name}:{number}", f"no uri in line {number} of the manifest")
    if is_remote(uri) or uri.startswith("/") or uri.lower().startswith("file://"):
        return Named(uri, given or default_id(uri, beside.prefix, name))
    return Named(beside.uri(uri), given or name(str(PurePosixPath(uri))))


def default_id(uri: str, prefix: str, name: Callable[[str], str] = id_of) -> str:
    """The id of a video that has none given: its path relative to a folder (ends in a slash), or all of its path."""
    if is_remote(uri):
        inside = without_query(redacted(uri)).removeprefix(prefix).split("://", 1)[-1]
    elif uri.lower().startswith("file://"):
        inside = unquote(uri[7:], errors="surrogateescape")
    else:
        inside = uri.removeprefix(prefix)
    return name(str(PurePosixPath(inside.lstrip("/"))))


def _csv_rows(manifest: str, file: BinaryIO) -> Rows:
    # `newline=""` leaves line ends to the reader, which knows those inside quotes.
    reader = csv.DictReader(io.StringIO(_text(manifest, file.read()), newline=""), strict=True)
    number = 1
    try:
        columns = reader.fieldnames or ()
        if "uri" not in columns:
            raise CorpusError(f"{manifest}: no column `uri` (columns are {', '.join(columns) or 'none'})")
        for row in reader:
            number = reader.line_num
            yield number, row
    except csv.Error as error:
        raise CorpusError(f"{manifest}: not CSV after line {number}: {error}; is a quote left open?") from None


def _json_rows(manifest: str, file: BinaryIO) -> Rows:
    # Not `splitlines`, which takes characters for line ends that may stand in a JSON string.
    for number, line in enumerate(_text(manifest, file.read()).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise CorpusError(f"{manifest}:{number}: not JSON ({why})") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{manifest}:{number}: not a JSON object")
        yield number, row


def _text(manifest: str, content: bytes) -> str:
    """Decoded as its byte-order mark says, else as UTF-8; nothing is guessed."""
    mark = next((mark for mark in _BYTE_ORDER_MARKS if content.startswith(mark)), b"")
    encoding = _BYTE_ORDER_MARKS.get(mark, "utf-8")
    content = content[len(mark) :]
    if encoding == "utf-8" and b"\0" in content[:2]:
        raise CorpusError(f"{manifest}:1: UTF-16 without a byte-order mark, it seems: save it as UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise CorpusError(
            f"{manifest}:{line}: byte 0x{content[error.start]:02x} at character {column} is not "
            f"{encoding.upper()}: save it as UTF-8"
        ) from None


def _parquet_rows(manifest: str, file: BinaryIO) -> Rows:
    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        columns = [name for name in ("uri", "video_id") if name in parquet.schema_arrow.names]
        if "uri" not in columns:
            raise CorpusError(f"{manifest}: no column `uri` (columns are {', '.join(parquet.schema_arrow.names)})")
        table = parquet.read(columns)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{manifest}: not a parquet file ({str(error).splitlines()[0]})") from None
    yield from enumerate(
        dict(zip(columns, row, strict=True)) for row in zip(*(_values(table[name]) for name in columns), strict=True)
    )


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python objects; nothing says that Arrow's strings are UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column.to_pylist()
    values = column.cast(pa.large_binary()).to_pylist()
    return [value if value is None else value.decode("utf-8", "surrogateescape") for value in values]
