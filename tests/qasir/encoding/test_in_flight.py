import threading
import time
from functools import partial

import pytest

from qasir.encoding.in_flight import InFlight


@pytest.mark.parametrize("most", [1, 2, 3])
def test_results_come_in_the_order_of_the_calls(most):
    running, peak, lock = 0, 0, threading.Lock()

    def call(number):
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.02 if number % 2 else 0.001)
        with lock:
            running -= 1
        return number

    got = []
    with InFlight(most) as calls:
        for number in range(9):
            got += calls.add(partial(call, number))
            assert number + 1 - len(got) <= most
        got += calls.rest()
    assert got == list(range(9))
    assert peak <= most


def test_two_calls_are_under_way_together():
    meeting = threading.Barrier(2, timeout=60)
    with InFlight(2) as calls:
        assert list(calls.add(meeting.wait)) == []
        assert list(calls.add(meeting.wait)) == []
        assert sorted(calls.rest()) == [0, 1]


def test_one_at_a_time_needs_no_thread():
    with InFlight(1) as calls:
        assert list(calls.add(threading.current_thread)) == [threading.current_thread()]


@pytest.mark.parametrize("most", [1, 2])
def test_what_a_call_raises_is_raised_where_its_result_is_due(most):
    def results():
        with InFlight(most) as calls:
            yield from calls.add(lambda: 1 // 0)
            yield from calls.rest()

    with pytest.raises(ZeroDivisionError):
        list(results())


def test_what_has_not_begun_when_it_is_left_never_does():
    begun, go = [], threading.Event()

    def call(number):
        begun.append(number)
        go.wait(60)

    with InFlight(2) as calls:
        for number in range(2):
            list(calls.add(partial(call, number)))
        go.set()
    assert set(begun) <= {0, 1}
