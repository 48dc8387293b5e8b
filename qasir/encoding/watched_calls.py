"""Calls functions in several watched children, until time is up."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa

from qasir.encoding.child import Task
from qasir.encoding.decode import decode_segments
from qasir.encoding.options import EncodeOptions
from qasir.encoding.watched import WatchedDecoder

Function = Callable[[], Iterator[pa.Table]]
Answer = list[pa.Table] | None
"""What a function gave; None where the process died of it."""

_START_S = 120.0
"""In which a child can surely be started."""
_A_WHILE_S = 0.5


class Calls(Protocol):
    """What calls functions that may hang, or kill their process: children of this one, or tasks of a cluster."""

    def each(self, functions: Iterable[Function], *, begin_s: float, end_s: float) -> Iterator[tuple[int, Answer]]:
        """(the number of the function, its answer), as they come. None is begun later than begin_s after the first
        could be; those that have not ended at end_s are given up, and do not come."""
        ...


class WatchedCalls:
    """`Calls` in n children of this process. They end with the context."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._children: list[WatchedDecoder] = []
        self._idle: list[WatchedDecoder] = []

    def __enter__(self) -> "WatchedCalls":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.__exit__(None, None, None)

    def each(self, functions: Iterable[Function], *, begin_s: float, end_s: float) -> Iterator[tuple[int, Answer]]:
        children = [self._idle.pop() if self._idle else self._child() for _ in range(self._n)]
        waiting, lock = enumerate(functions), threading.Lock()
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        since: list[float] = []

        def work(child: WatchedDecoder) -> None:
            try:
                child.call(_nothing)  # it has started
                since.append(time.monotonic())
                while time.monotonic() < since[0] + begin_s:
                    with lock:
                        number, function = next(waiting, (None, None))
                    if function is None:
                        break
                    answers.put((number, child.call(function)))
                answers.put(child)
            except BaseException as error:
                answers.put(error)

        for child in children:
            threading.Thread(target=work, args=(child,), daemon=True).start()
        asked_at = time.monotonic()
        busy = set(children)
        while busy:
            ends = since[0] + end_s if since else asked_at + _START_S
            try:
                answer = answers.get(timeout=min(_A_WHILE_S, max(0.0, ends - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= ends:
                    break
                continue
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, WatchedDecoder):
                busy.discard(answer)
                self._idle.append(answer)
            else:
                yield answer
        for child in busy:
            child.close()

    def beside(self, function: Function) -> Callable[[], Answer]:
        """Begin a function in a child of its own, while others are called; what is returned waits for its answer."""
        child = self._child()
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put(child.call(function))
            except BaseException as error:
                answers.put(error)

        threading.Thread(target=work, daemon=True).start()

        def answer() -> Answer:
            found = answers.get()
            if isinstance(found, BaseException):
                raise found
            assert found is None or isinstance(found, list)
            return found

        return answer

    def _child(self) -> WatchedDecoder:
        none: Sequence[Any] = ()
        self._children.append(WatchedDecoder(Task(decode_segments, none, EncodeOptions())))
        return self._children[-1]


def _nothing() -> Iterator[pa.Table]:
    return iter(())
