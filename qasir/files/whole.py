"""Writes a file whole or not at all. All raise StorageError that names the file where it cannot be written."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from qasir.errors import StorageError
from qasir.files.readable import reason


def write_whole(path: Path, text: str) -> None:
    """Replace `path` by a file with this text; a reader, or a kill, never sees half of it."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """`write_whole` for lines that end with a line break, one at a time."""
    with _partial(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


def write_parquet(path: Path, table: pa.Table) -> None:
    """`write_whole` for a table."""
    with _partial(path) as partial:
        pyarrow.parquet.write_table(table, partial)


def write_bytes(path: Path, content: bytes) -> None:
    """`write_whole` for bytes."""
    with _partial(path) as partial:
        partial.write_bytes(content)


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """The file to write, which then becomes `path`."""
    partial = path.with_suffix(path.suffix + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        why = os.strerror(error.errno) if error.errno else reason(error)
        raise StorageError(f"cannot write {path}: {why}") from error
