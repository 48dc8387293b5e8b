import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from qasir.encoding.watched_calls import WatchedCalls

TABLE = pa.table({"n": [1, 2]})


def gives(n):
    yield TABLE.slice(0, n)
    yield TABLE


def dies():
    yield TABLE
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs():
    yield TABLE
    time.sleep(600)


def test_answers_come_with_the_number_of_their_function_and_the_dead_give_none():
    functions: list[Callable[[], Iterator[Any]]] = [partial(gives, 1), dies, partial(gives, 2)]
    with WatchedCalls(2) as calls:
        found = dict(calls.each(functions, begin_s=60, end_s=60))
        beside = calls.beside(partial(gives, 0))
        assert beside() == [TABLE.slice(0, 0), TABLE]
    assert found == {0: [TABLE.slice(0, 1), TABLE], 1: None, 2: [TABLE, TABLE]}


def test_what_hangs_is_given_up_when_time_is_up():
    since = time.monotonic()
    with WatchedCalls(1) as calls:
        functions: list[Callable[[], Iterator[Any]]] = [partial(gives, 1), hangs, partial(gives, 2)]
        began = iter(functions)
        found = dict(calls.each(began, begin_s=30, end_s=8))
        assert next(began, None) is not None  # nobody took up another
    assert list(found) == [0]
    assert time.monotonic() - since < 60


def test_none_is_begun_when_time_is_up():
    with WatchedCalls(1) as calls:
        assert dict(calls.each([partial(gives, 1)], begin_s=0, end_s=10)) == {}


def test_a_function_that_cannot_be_sent_is_an_error():
    with WatchedCalls(1) as calls, pytest.raises((AttributeError, TypeError)):
        list(calls.each([lambda: iter([])], begin_s=10, end_s=10))
