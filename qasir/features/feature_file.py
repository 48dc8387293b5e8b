"""What every format of features is read as."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Entry:
    """One array of a file of features: the id that the file gives it, and what a look at the file said. path: the file
    that changes when the array does; in formats of many arrays a file, all of them share it."""

    name: str
    path: Path
    size_bytes: int
    mtime_ns: int


class FeatureFile(Protocol):
    """A file of features, or a folder of files that belong together; nothing of them is held in memory."""

    def entries(self) -> Iterator[Entry]:
        """Its arrays. Raises FeaturesError for what cannot be read, or was not written whole."""
        ...

    def read(self, name: str) -> Array:
        """The array of one entry, as it is stored. Raises FeaturesError that names the file and the id."""
        ...
