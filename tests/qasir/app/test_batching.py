import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from qasir.app.batching import Gathering


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
    broken = Gathering(lambda asked: 1 / 0)
    for _ in range(2):  # it goes on
        with pytest.raises(ZeroDivisionError):
            broken.ask("any")
    broken.close()


def test_nothing_is_kept_of_what_was_answered_and_nothing_taken_once_closed():
    gathering = Gathering(list)
    thing = Thing()
    assert gathering.ask(thing) is thing
    kept = weakref.ref(thing)
    del thing
    gathering.ask("next")  # the thread has let go of the one before
    gc.collect()
    assert kept() is None
    gathering.close()
    with pytest.raises(RuntimeError, match="closed"):
        gathering.ask("late")
