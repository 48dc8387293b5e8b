"""Takes from an iterator in a thread, some items before they are asked for."""

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_S = 0.05


class Ahead(Generic[T]):
    """The items of an iterator, up to `most` of them taken already, while it is entered.

    stop: has the iterator end soon, from another thread; called when no more items are wanted.
    """

    def __init__(self, items: Iterator[T], *, most: int, stop: Callable[[], None]) -> None:
        self._items = items
        self._stop = stop
        self._taken: queue.Queue[T | _Over] = queue.Queue(most)
        self._is_left = threading.Event()
        self._thread = threading.Thread(target=self._take, name="ahead", daemon=True)

    def __enter__(self) -> "Ahead[T]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_left.set()
        self._stop()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while not isinstance(item := self._taken.get(), _Over):
            yield item
        if item.error is not None:
            raise item.error

    def _take(self) -> None:
        over = _Over()
        try:
            for item in self._items:
                self._put(item)
                if self._is_left.is_set():
                    return
        except BaseException as error:
            over.error = error
        self._put(over)

    def _put(self, item: "T | _Over") -> None:
        while not self._is_left.is_set():
            try:
                self._taken.put(item, timeout=_LOOK_S)
            except queue.Full:
                continue
            return


class _Over:
    """The end, and what it was the end by."""

    error: BaseException | None = None
