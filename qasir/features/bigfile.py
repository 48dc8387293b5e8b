"""MS-SL's BigFile: a folder with the rows of all videos one after another.

feature.bin is float32, little-endian; shape.txt the number of rows and of columns; id.txt the ids of the rows, in
ISO-8859-1, with white space between; video2frames.txt a Python dict literal of each video's ids of rows, in order of
time.
"""

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.errors import FeaturesError
from qasir.features.feature_file import Array, Entry
from qasir.files.readable import reason

MATRIX, IDS, SHAPE, FRAMES = NAMES = ("feature.bin", "id.txt", "shape.txt", "video2frames.txt")
_ENCODING = "iso-8859-1"
_STRING = r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
_ENTRY = re.compile(rf"\s*+({_STRING})\s*+:\s*+(\[(?:\s*+{_STRING}\s*+,?)*+\s*+\])\s*+(,|(?=\}}))", re.DOTALL)
_NUMBER = np.dtype("<f4")


class BigFile:
    """One folder. Raises FeaturesError when a file of it is missing, malformed, or does not fit the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if missing := [name for name in NAMES if not (folder / name).is_file()]:
            raise FeaturesError(f"{folder}: a BigFile has {', '.join(NAMES)}; {', '.join(missing)} is not there")
        self._about = [(folder / name).stat() for name in NAMES]
        self.shape = self._shape()
        n_bytes, wanted = self._about[0].st_size, self.shape[0] * self.shape[1] * _NUMBER.itemsize
        if n_bytes != wanted:
            raise FeaturesError(
                f"{folder / MATRIX}: {n_bytes:,} bytes, where {SHAPE} has {self.shape[0]:,} rows of {self.shape[1]:,} "
                f"float32 numbers, {wanted:,} bytes: is it written whole?"
            )

    def entries(self) -> Iterator[Entry]:
        # What is rewritten in any of the four changes all videos.
        size, mtime_ns = sum(about.st_size for about in self._about), max(about.st_mtime_ns for about in self._about)
        for name in self._rows:
            yield Entry(name, self.folder / MATRIX, size, mtime_ns)

    def read(self, name: str) -> Array:
        rows = self._rows[name]
        return np.asarray(self._matrix[rows])

    @cached_property
    def _matrix(self) -> NDArray[np.float32]:
        return np.memmap(self.folder / MATRIX, _NUMBER, "r", shape=self.shape)

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        """{video: its rows of the matrix}."""
        names, frames = self._video2frames()
        rows = pc.index_in(frames.values, value_set=self._ids())
        if rows.null_count:
            unknown = frames.values.filter(rows.is_null())
            raise FeaturesError(
                f"{self.folder / FRAMES}: {len(unknown):,} rows are not in {IDS}, {', '.join(unknown[:3].to_pylist())} "
                "first"
            )
        numbers = rows.to_numpy().astype(np.int64)
        offsets = frames.offsets.to_numpy()
        return {name: numbers[offsets[i] : offsets[i + 1]] for i, name in enumerate(names)}

    def _ids(self) -> pa.LargeStringArray:
        """The ids of the rows, held by Arrow: there are millions."""
        text = self._text(IDS).strip(" \t\r\n\f\v")
        ids = pc.ascii_split_whitespace(pa.array([text], pa.large_string())).flatten()
        if len(ids) != self.shape[0]:
            raise FeaturesError(f"{self.folder / IDS}: {len(ids):,} ids for the {self.shape[0]:,} rows of {SHAPE}")
        return ids

    def _video2frames(self) -> tuple[list[str], pa.LargeListArray]:
        """(videos, the ids of each one's rows). An entry at a time is taken as Python writes it, since the tree of the
        whole literal would take gigabytes; nothing is executed."""
        text = self._text(FRAMES)
        start = re.match(r"\s*\{", text)
        names: list[str] = []
        parts: list[pa.LargeStringArray] = []
        offsets = [0]
        seen: set[str] = set()
        at = -1 if start is None else start.end()
        while at >= 0 and (found := _ENTRY.match(text, at)):
            name = ast.literal_eval(found[1])
            if name in seen:
                raise FeaturesError(f"{self.folder / FRAMES}: two entries for the video {name!r}")
            seen.add(name)
            names.append(name)
            parts.append(pa.array(ast.literal_eval(found[2]), pa.large_string()))
            offsets.append(offsets[-1] + len(parts[-1]))
            at = found.end()
        if at < 0 or re.fullmatch(r"\s*\}\s*", text[at:]) is None:
            where = f"after {names[-1]!r}" if names else "at its start"
            raise FeaturesError(
                f"{self.folder / FRAMES}: not a dict of lists of strings, as Python writes it, {where}: is it written "
                "whole?"
            )
        values = pa.concat_arrays(parts) if parts else pa.array([], pa.large_string())
        return names, pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)

    def _shape(self) -> tuple[int, int]:
        try:
            rows, columns = map(int, self._text(SHAPE).split())
        except ValueError:
            raise FeaturesError(f"{self.folder / SHAPE}: not two whole numbers, of rows and of columns") from None
        if rows < 0 or columns < 1:
            raise FeaturesError(f"{self.folder / SHAPE}: {rows} rows of {columns} columns")
        return rows, columns

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding=_ENCODING)
        except OSError as error:
            raise FeaturesError(f"{self.folder / name}: cannot be read ({reason(error)})") from None
