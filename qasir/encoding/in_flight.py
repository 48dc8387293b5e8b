"""Calls under way in threads, whose results come in the order of the calls."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

R = TypeVar("R")


class InFlight(Generic[R]):
    """Up to `most` calls at a time while it is entered; with one, calls run here and now and there is no thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads = ThreadPoolExecutor(most, "in-flight") if most > 1 else None
        self._waiting: deque[Future[R]] = deque()

    def __enter__(self) -> "InFlight[R]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def add(self, call: Callable[[], R]) -> Iterator[R]:
        """Begin a call, once no more than `most` - 1 are under way; the results that had to be waited for. To be
        iterated over."""
        if self._threads is None:
            yield call()
            return
        while len(self._waiting) >= self._most:
            yield self._waiting.popleft().result()
        self._waiting.append(self._threads.submit(call))

    def rest(self) -> Iterator[R]:
        """The results of what is still under way."""
        while self._waiting:
            yield self._waiting.popleft().result()
