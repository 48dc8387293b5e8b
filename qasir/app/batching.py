"""Gathers what many ask at once: a thread takes all that is waiting, and asks for it together.

Nothing waits for company: where a thread is idle, a question is taken at once; while all are busy, those that come
gather.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from qasir.app.errors import BusyError

Question = TypeVar("Question")
Answer = TypeVar("Answer")
_ENDING = "the server is ending"


class Gathering(Generic[Question, Answer]):
    """Answers questions by one function of many. answer: from questions to their answers, in order, an answer that is
    an Exception being raised to who asked; threads: how many ask it; most: how many questions it gets at once."""

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer | Exception]],
        *,
        threads: int = 1,
        most: int = 256,
    ) -> None:
        self._answer = answer
        self._most = most
        self._waiting: deque[tuple[Question, Future[Answer]]] = deque()
        self._unanswered: set[Future[Answer]] = set()
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [threading.Thread(target=self._work, name="gathering", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def ask(self, question: Question) -> Answer:
        """The answer, once there is one. Raises what answering raised, and BusyError once it is closed."""
        future: Future[Answer] = Future()
        with self._changed:
            if self._is_closed:
                raise BusyError(_ENDING)
            self._waiting.append((question, future))
            self._unanswered.add(future)
            self._changed.notify()
        return future.result()

    def close(self, until: float | None = None) -> bool:
        """Answer what is waiting, and end the threads: whether all have ended.

        until: on the clock of `time.monotonic`, when what is still unanswered is given up, and threads are left to end
        with the process.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        n_left = sum(not joined(thread, until) for thread in self._threads)
        with self._changed:
            for future in self._unanswered:
                future.set_exception(BusyError(_ENDING))
            self._unanswered.clear()
            self._waiting.clear()
        return n_left == 0

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Answer what is waiting; whether there is more to come. Nothing of it is kept while there is nothing to do."""
        taken = self._take()
        try:
            answers: Sequence[Answer | Exception] = self._answer([question for question, _ in taken]) if taken else []
        except Exception as error:  # whatever it is, those who wait are told
            answers = [error] * len(taken)
        for (_, future), answer in zip(taken, answers, strict=True):
            self._tell(future, answer)
        return bool(taken)

    def _tell(self, future: "Future[Answer]", answer: Answer | Exception) -> None:
        with self._changed:
            if future not in self._unanswered:  # it was given up
                return
            self._unanswered.remove(future)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _take(self) -> list[tuple[Question, "Future[Answer]"]]:
        """What is waiting; nothing once it is closed and all is answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]


def joined(thread: threading.Thread, until: float | None) -> bool:
    """Whether a thread ended, by then on the clock of `time.monotonic`, or whenever it does."""
    thread.join(None if until is None else max(0.0, until - time.monotonic()))
    return not thread.is_alive()
