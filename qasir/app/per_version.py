"""Remembers what is costly to find out and stays the same as long as a table does."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lance import LanceDataset

Value = TypeVar("Value")


class PerVersion(Generic[Value]):
    """What `make` gives of the version of a table that was asked for last, for any number of threads. A table that was
    made anew has versions of the same numbers, but of other times."""

    def __init__(self, make: Callable[[LanceDataset], Value]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._last: tuple[Any, Value] | None = None

    def of(self, table: LanceDataset) -> Value:
        found = table.get_version()
        version = found["version"], found["timestamp"]
        with self._lock:
            if self._last is None or self._last[0] != version:
                self._last = version, self._make(table)
            return self._last[1]
