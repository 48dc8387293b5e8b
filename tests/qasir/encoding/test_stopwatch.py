import os
import subprocess
import sys
import time

import pytest

from qasir.encoding.stopwatch import Stopwatch


def work(cpu_s):
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


def test_work_and_waiting_are_told_apart():
    watch = Stopwatch()
    work(0.1)
    time.sleep(0.2)
    with watch.stopped():
        work(0.1)
        time.sleep(0.1)
    taken = watch.taken()
    assert taken.seconds >= 0.3
    assert taken.cpu_s == pytest.approx(0.1, abs=0.05)
    if os.path.exists("/proc/thread-self/schedstat"):
        assert taken.wait_s == pytest.approx(0.2, abs=0.08)


@pytest.mark.skipif(not os.path.exists("/proc/thread-self/schedstat"), reason="the system does not tell")
def test_a_thread_that_stands_in_line_for_a_core_does_not_wait():
    """Three on one core: each has it for a third of the time."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        work(0.1)  # they are up
        watch = Stopwatch()
        work(0.1)
        taken = watch.taken()
    finally:
        os.sched_setaffinity(0, cores)
        for other in others:
            other.kill()
            other.wait()
    assert taken.seconds > 1.5 * taken.cpu_s
    assert taken.wait_s < 0.1 * taken.seconds
