"""Features as NumPy writes them: an .npz or .npy an id, whose name without its suffix is the id."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from qasir.errors import FeaturesError
from qasir.features.feature_file import Array, Entry
from qasir.files.readable import reason

KEY = "features"
"""The array of an .npz that is read where there are several, unless another is named."""

_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    tokenize.TokenError,
    zlib.error,
)
"""What NumPy and zipfile raise for damaged files: headers that are no Python or ask for too much, packed bytes that do
not unpack, ways of packing that are not known."""


class ArrayFiles:
    """Any number of files, of any folders. key: the array of an .npz to read; None for the only one, or `features`.
    Raises FeaturesError when two have one name."""

    def __init__(self, paths: Sequence[Path], key: str | None = None) -> None:
        self._key = key
        self._paths: dict[str, Path] = {}
        for path in paths:
            other = self._paths.setdefault(path.stem, path)
            if other is not path:
                raise FeaturesError(f"two files of features for {path.stem!r}: {other} and {path}")

    def entries(self) -> Iterator[Entry]:
        for name, path in self._paths.items():
            about = path.stat()
            yield Entry(name, path, about.st_size, about.st_mtime_ns)

    def read(self, name: str) -> Array:
        path = self._paths[name]
        try:
            found = np.load(path, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                return found[self._key_of(path, found.files)]
        except _UNREADABLE as error:
            raise FeaturesError(f"{path}: cannot be read ({reason(error)}): is it written whole?") from None

    def _key_of(self, path: Path, keys: Sequence[str]) -> str:
        if self._key is None and len(keys) == 1:
            return keys[0]
        key = KEY if self._key is None else self._key
        if key not in keys:
            raise FeaturesError(f"{path}: no array {key!r} in it: name one of {', '.join(keys) or 'none'}")
        return key
