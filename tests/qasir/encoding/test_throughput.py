"""What a run says of where its time went."""

import time

import numpy as np
import pytest

from jobs.progress import throughput_lines
from qasir.encoding.bounds import Capacity
from qasir.encoding.receipts import Written
from qasir.encoding.reports import Report
from qasir.encoding.throughput import Throughput

CPU = Capacity(cores=2, decoders=3, encoders=1, encoder_threads=2)
GPU = Capacity(cores=2, decoders=3, encoders=1, encoder_threads=0)


def report(seconds, cpu_s, wait_s=0.0, n_new=10, ended=None):
    return Report(
        "v", "v.mp4", 1, "f", "encoded", n_new=n_new, seconds=seconds, cpu_s=cpu_s, wait_s=wait_s, ended=ended
    )


def written(encode_s, cpu_s, n=10, began=None, write_s=0.0):
    seconds = {"encode": encode_s, "write": write_s}
    return Written(0, [], {"v": (list(range(n)), np.zeros(1))}, seconds, encode_cpu_s=cpu_s, began=began)


def ran(capacity, *receipts, startup_s=1.0, working_s=20.0, commit_s=0.0):
    """A run of these receipts."""
    now = time.time()
    run = Throughput(grid=3, capacity=capacity, began=now - startup_s - working_s)
    for receipt in receipts:
        run.add(receipt)
    run.first_batch, run.ended = now - working_s, now
    run.busy_s["commit"] = commit_s
    return run


def test_of_shared_cores_what_counts_is_their_time_not_how_long_stages_took():
    """Each takes its time while the other has the core."""
    run = ran(CPU, report(30.0, cpu_s=10.0), written(20.0, cpu_s=2.0))
    assert (run.bottleneck, run.facts()["bottleneck"]) == ("decode", "decode")
    assert run.facts()["bounds"] == (
        "decoding bounds this, with 83 % of the work of the cores: a model twice as large would take 17 % longer"
    )
    assert run.facts()["cpu_s"] == {"decode": 10.0, "encode": 2.0}


def test_beside_a_gpu_its_time_counts():
    run = ran(GPU, report(30.0, cpu_s=29.0), written(1.0, cpu_s=0.5))
    assert run.sentence == "decoding bounds this: a model up to 14 times larger would take no longer"
    run = ran(GPU, report(3.0, cpu_s=2.0), written(18.0, cpu_s=0.5))
    assert run.sentence == "encoding bounds this: N = 4 would take 44 % less time"


def test_waiting_counts_unless_the_cores_are_busy():
    """A container that may use two cores and does, waits for them."""
    assert ran(CPU, report(50.0, 10.0, wait_s=38.0), written(9.0, 9.0)).bottleneck == "decode"
    assert ran(CPU, report(50.0, 18.0, wait_s=30.0), written(20.0, 20.0)).bottleneck == "encode"


def test_committing_that_takes_longest_bounds():
    run = ran(CPU, report(3.0, 2.0), written(3.0, 2.0), commit_s=15.0)
    assert (run.bottleneck, run.sentence) == (
        "commit", "committing bounds this: less often, or to faster storage, would shorten it"
    )  # fmt: skip


def test_a_short_run_says_that_it_only_started():
    run = ran(GPU, report(3.0, 2.0), written(0.5, 0.1), startup_s=17.0, working_s=5.0)
    assert run.sentence == (
        "start-up took 17 of 22 s; after it, decoding bounds this: a model up to 2 times larger would take no longer"
    )


def test_before_anything_is_encoded_nothing_is_said():
    assert Throughput().facts()["bounds"] is None
    run = ran(CPU, report(3.0, 2.0, n_new=0))
    assert (run.bottleneck, run.sentence) == ("decode", None)


def test_a_probe_is_start_up_and_what_it_did_counts():
    run = Throughput(capacity=CPU, began=time.time() - 30)
    run.add(report(20.0, 4.0))
    run.add(written(5.0, 4.0, began=run.began + 5))
    run.begin_again(CPU)
    assert run.startup_s == pytest.approx(30, abs=1)
    run.capacity = Capacity(cores=2, decoders=8, encoders=1, encoder_threads=2)
    run.add(written(5.0, 4.0, began=run.began + 35))
    run.ended = run.began + 45
    facts = run.facts()
    assert facts["startup_s"] == pytest.approx(35)
    assert facts["busy_s"]["encode"] == 10.0
    assert facts["utilisation"]["encode"] == pytest.approx(0.5)  # five seconds of ten
    assert facts["utilisation"]["decode"] == 0.0
    assert facts["probe"] == {"workers": {"decode": 3, "encode": 1}, "seconds": pytest.approx(30, abs=1)}


def test_a_run_in_which_all_failed_was_bound_by_nothing():
    run = Throughput(grid=3, capacity=CPU, began=time.time() - 12)
    run.add(report(0.6, cpu_s=0.3, n_new=0))
    run.committed(0.05)
    run.ended = run.began + 12
    facts = run.facts()
    assert (facts["bottleneck"], facts["bounds"], facts["working_s"]) == (None, None, 12.0)
    assert facts["utilisation"]["decode"] == pytest.approx(0.6 / (3 * 12), abs=1e-3)
    assert throughput_lines(facts, super_images=0, video_seconds=0.0) == []


def test_the_last_commit_of_a_run_bounds_nothing():
    def committing(*seconds):
        run = ran(CPU, report(3.0, 2.0), written(3.0, 2.0))
        for each in seconds:
            run.committed(each)
        return run.bottleneck

    assert committing(15.0) == committing(1.0, 15.0) == "decode"
    assert committing(15.0, 1.0) == "commit"


def test_what_was_done_before_the_first_batch_is_no_part_of_what_came_after():
    """Ten seconds of decoding before it and two after it are a sixth of four seconds of three decoders."""
    began = time.time() - 20
    run = Throughput(capacity=CPU, began=began)
    run.add(report(10.0, 16.0, wait_s=1.0, ended=began + 14))  # told before the first batch is, and half of it later
    run.add(written(2.0, 2.0, began=began + 12))
    run.ended = began + 16
    facts = run.facts()
    assert (facts["startup_s"], facts["working_s"]) == (12.0, 4.0)
    assert facts["busy_s"]["decode"] == 10.0
    for stage, within in (("decode", 2.0), ("encode", 2.0)):
        assert facts["utilisation"][stage] * facts["workers"][stage] * facts["working_s"] == pytest.approx(
            within, abs=0.01
        )
    bounds = run.bounds()
    assert bounds is not None
    assert bounds.cost.decode_wait_s == 0.1  # the cores were not busy: 3.2 + 2 of their 8 seconds
