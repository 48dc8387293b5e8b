import gc
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from qasir.app.batching import Gathering
from qasir.app.errors import BusyError


class Thing:
    pass


def test_what_waits_while_it_is_busy_is_answered_together():
    busy, go = threading.Event(), threading.Event()
    sizes = []

    def answer(questions):
        sizes.append(len(questions))
        busy.set()
        assert go.wait(30)
        return [2 * question for question in questions]

    gathering = Gathering(answer)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(gathering.ask, 1)
        assert busy.wait(30)
        rest = [pool.submit(gathering.ask, n) for n in range(2, 10)]
        while len(gathering._waiting) < 8:
            threading.Event().wait(0.001)
        go.set()
        assert first.result() == 2
        assert [one.result() for one in rest] == [2 * n for n in range(2, 10)]
    gathering.close()
    assert sizes == [1, 8]


def test_each_hears_of_its_own_error_and_all_of_a_common_one():
    gathering = Gathering(lambda asked: [ValueError(one) if one == "bad" else one for one in asked])
    assert gathering.ask("good") == "good"
    with pytest.raises(ValueError, match="bad"):
        gathering.ask("bad")
    gathering.close()

    def answer(asked: Sequence[str]) -> list[str | Exception]:
        raise ZeroDivisionError

    broken: Gathering[str, str] = Gathering(answer)
    for _ in range(2):  # it goes on
        with pytest.raises(ZeroDivisionError):
            broken.ask("any")
    broken.close()


def test_nothing_is_kept_of_what_was_answered_and_nothing_taken_once_closed():
    gathering: Gathering[Any, Any] = Gathering(list)
    thing = Thing()
    assert gathering.ask(thing) is thing
    kept = weakref.ref(thing)
    del thing
    gathering.ask("next")  # the thread has let go of the one before
    gc.collect()
    assert kept() is None
    gathering.close()
    with pytest.raises(BusyError, match="ending"):
        gathering.ask("late")


def test_what_takes_too_long_is_given_up_when_it_is_closed():
    go_on, told = threading.Event(), []

    def answer(questions):
        go_on.wait()
        return questions

    gathering = Gathering(answer)

    def ask(question):
        try:
            gathering.ask(question)
        except BusyError as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask, args=[question]) for question in "ab"]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    while len(gathering._unanswered) < 2:
        time.sleep(0.01)
    assert not gathering.close(time.monotonic() + 0.1)
    for thread in threads:
        thread.join()
    assert told == ["the server is ending"] * 2
    assert time.monotonic() < begun + 5
    go_on.set()
    assert gathering.close()
