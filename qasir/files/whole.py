"""Writes a file whole or not at all."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet


def write_whole(path: Path, text: str) -> None:
    """Replace `path` by a file with this text; a reader, or a kill, never sees half of it."""
    write_bytes(path, text.encode())


def write_parquet(path: Path, table: pa.Table) -> None:
    """`write_whole` for a table."""
    partial = _partial(path)
    pyarrow.parquet.write_table(table, partial)
    os.replace(partial, path)


def write_bytes(path: Path, content: bytes) -> None:
    """`write_whole` for bytes."""
    partial = _partial(path)
    partial.write_bytes(content)
    os.replace(partial, path)


def _partial(path: Path) -> Path:
    return path.with_suffix(path.suffix + ".partial")
