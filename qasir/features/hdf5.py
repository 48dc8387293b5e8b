"""Features in HDF5: a dataset an id, at the root or in groups, whose names are then part of the id."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qasir.errors import FeaturesError
from qasir.features.feature_file import Array, Entry
from qasir.files.readable import reason

SUFFIXES = frozenset({".h5", ".hdf5", ".hdf"})


class Hdf5File:
    """One file. Raises FeaturesError when it cannot be opened, as when it was not written whole, or when h5py is not
    installed."""

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError:
            raise FeaturesError(f"{path}: reading HDF5 takes h5py: pip install 'qasir[features]'") from None
        self.path = path
        self._dataset = h5py.Dataset
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise FeaturesError(f"{path}: cannot be read as HDF5 ({reason(error)}): is it written whole?") from None

    def entries(self) -> Iterator[Entry]:
        about = self.path.stat()
        names: list[str] = []

        def look(name: str, node: Any) -> None:
            if isinstance(node, self._dataset):
                names.append(name)

        try:
            self._file.visititems(look)
        except (OSError, RuntimeError, KeyError) as error:
            raise FeaturesError(f"{self.path}: cannot be listed ({reason(error)}): is it written whole?") from None
        for name in names:
            yield Entry(name, self.path, about.st_size, about.st_mtime_ns)

    def read(self, name: str) -> Array:
        try:
            found: Array = self._file[name][()]
        except (OSError, RuntimeError, KeyError) as error:
            raise FeaturesError(f"{self.path}: {name!r} cannot be read ({reason(error)})") from None
        return found
