"""Remembers what is costly to find out and stays the same as long as a table does."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from lance import LanceDataset

Value = TypeVar("Value")


class PerVersion(Generic[Value]):
    """What `make` gives of the version of a table that was asked for last, for any number of threads."""

    def __init__(self, make: Callable[[LanceDataset], Value]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._last: tuple[int, Value] | None = None

    def of(self, table: LanceDataset) -> Value:
        with self._lock:
            if self._last is None or self._last[0] != table.version:
                self._last = int(table.version), self._make(table)
            return self._last[1]
