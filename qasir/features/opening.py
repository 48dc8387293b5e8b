"""Opens features of any format, in one file or in many."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qasir.errors import FeaturesError
from qasir.features import bigfile, hdf5
from qasir.features.arrays import ArrayFiles
from qasir.features.bigfile import BigFile
from qasir.features.feature_file import Array, Entry, FeatureFile
from qasir.features.hdf5 import Hdf5File
from qasir.files.uris import is_remote

FORMATS = ("auto", "hdf5", "bigfile", "npz", "npy")
_HDF5_BEGINS = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Features:
    """Features by id, of any number of files. path: what was opened, absolute."""

    path: Path
    form: str
    files: tuple[FeatureFile, ...]

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """{id: its entry}. Raises FeaturesError when there are none, or two with one id."""
        return {name: entry for name, (_, entry) in self._owners.items()}

    @cached_property
    def version(self) -> str:
        """A hash of what its files are, by size and time of modification: another one where any was written anew."""
        facts = sorted({(str(e.path), e.size_bytes, e.mtime_ns) for e in self.entries.values()})
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def read(self, name: str) -> Array:
        """The array of an id, as it is stored. Raises FeaturesError that names the file and the id."""
        return self._owners[name][0].read(name)

    @cached_property
    def _owners(self) -> dict[str, tuple[FeatureFile, Entry]]:
        found: dict[str, tuple[FeatureFile, Entry]] = {}
        for file in self.files:
            for entry in file.entries():
                if entry.name in found:
                    other = found[entry.name][1].path
                    raise FeaturesError(f"two arrays have the id {entry.name!r}: in {other} and in {entry.path}")
                found[entry.name] = (file, entry)
        if not found:
            raise FeaturesError(f"no features in {self.path}")
        return found


def open_features(path: str | Path, form: str = "auto", *, key: str | None = None) -> Features:
    """The features in a file or a folder, which is searched recursively: HDF5 files, BigFile folders, or an .npz or
    .npy an id.

    key: the array of an .npz to read. Raises FeaturesError when there is nothing such, or several formats and none was
    chosen.
    """
    if form not in FORMATS:
        raise FeaturesError(f"format {form!r}: choose one of {', '.join(FORMATS)}")
    if is_remote(str(path)):
        raise FeaturesError(f"{path}: features are read from local files: copy them here first")
    path = Path(path).absolute()
    if not path.exists():
        raise FeaturesError(f"no such file or folder: {path}")
    found = [(kind, part) for kind, part in _parts(path) if form in ("auto", kind)]
    if not found and path.is_file() and form != "auto":
        found = [(form, path)]  # whatever it is called
    counts = Counter(kind for kind, _ in found)
    if not counts:
        wanted = "" if form == "auto" else f" of the format {form}"
        raise FeaturesError(f"no features{wanted} in {path}: formats are {', '.join(FORMATS[1:])}")
    if len(counts) > 1:
        held = ", ".join(f"{n:,} of {kind}" for kind, n in sorted(counts.items()))
        raise FeaturesError(f"{path} holds features of several formats ({held}): choose one by --format")
    (kind,) = counts
    if key is not None and kind != "npz":
        raise FeaturesError(f"{path}: {kind} has no arrays by name: leave out the key {key!r}")
    return Features(path, kind, tuple(_opened(kind, [part for _, part in found], key)))


def _opened(kind: str, paths: list[Path], key: str | None) -> list[FeatureFile]:
    if kind == "hdf5":
        return [Hdf5File(path) for path in paths]
    if kind == "bigfile":
        return [BigFile(path) for path in paths]
    return [ArrayFiles(paths, key)]


def _parts(path: Path) -> Iterator[tuple[str, Path]]:
    """(format, file or BigFile's folder) of what is there, sorted by path."""
    if path.is_file():
        if (kind := _kind(path)) is not None:
            yield kind, path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if bigfile.MATRIX in names:
            yield "bigfile", Path(folder)
        for name in sorted(names):
            if not name.startswith(".") and (kind := _kind(Path(folder, name))) is not None:
                yield kind, Path(folder, name)


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in hdf5.SUFFIXES:
        return "hdf5"
    if suffix in (".npz", ".npy"):
        return suffix[1:]
    if suffix in (".bin", ".txt", ".json", ".jsonl", ".csv"):
        return None
    with open(path, "rb") as file:
        return "hdf5" if file.read(len(_HDF5_BEGINS)) == _HDF5_BEGINS else None
