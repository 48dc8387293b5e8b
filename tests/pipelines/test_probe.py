"""When a graph is begun again with other sizes, and with which."""

import time

import numpy as np
import pyarrow as pa
import pytest

from pipelines.probe import Probe
from pipelines.workers import Workers, most_decoders
from qasir.encoding.bounds import Bounds, Cost
from qasir.encoding.receipts import Receipt, Written
from qasir.encoding.reports import Report

CPUS = Workers.for_cluster(16, 0, 16)
GPUS = Workers.for_cluster(64, 8, 64)


def measured(workers, cost, cpus, *, decoders=0, encoder_cores=4.0):
    found = workers.measured(cost, cpus, decoders=decoders or most_decoders(cpus, 2**60), encoder_cores=encoder_cores)
    return found, Bounds(cost, found.capacity(cpus)).seconds()


def test_decoders_that_wait_for_storage_are_more():
    """Three quarters of their time: four of them keep a core busy."""
    waiting = Cost(decode_cpu_s=0.01, encode_s=0.001, images=1.0, decode_wait_s=0.03)
    assert measured(CPUS, waiting, 16)[0].decoders == 64
    assert measured(CPUS, waiting, 16, decoders=40)[0].decoders == 40  # for which there is memory
    assert measured(CPUS, Cost(0.01, 0.001, 1.0), 16)[0].decoders == 19
    assert most_decoders(16, 32 << 30) == 16


def test_encoders_are_as_many_as_keep_up_with_the_decoders():
    """64 CPUs decode 5,600 frames a second beside GPUs that take a tenth of a core each; a GPU encodes 2,000."""
    found, seconds = measured(GPUS, Cost(decode_cpu_s=0.01, encode_s=0.0005, images=1.0), 64, encoder_cores=0.1)
    assert (found.encoders, found.first_encoders, found.decoders) == (4, 4, 79)
    assert seconds == pytest.approx(0.01 / 63.6)
    found, seconds = measured(GPUS, Cost(decode_cpu_s=0.001, encode_s=0.01, images=1.0), 64, encoder_cores=0.1)
    assert (found.encoders, found.decoders) == (8, 1)
    assert seconds == pytest.approx(0.01 / 8)


def test_a_slow_model_gets_all_the_cpus_whatever_its_size_let_expect():
    found, _ = measured(CPUS, Cost(decode_cpu_s=0.01, encode_s=0.99, images=1.0), 16)
    assert (found.encoders, found.threads, found.decoders) == (4, 4, 1)


def seen(workers, limits, *, cpus, n_images, wait_s=0.0, encode_s=0.02, since_s=20.0, n_segments=40):
    """A probe that has seen ten super images of each segment."""
    probe = Probe(workers, limits, cpus=cpus, decoders=4 * cpus, n_images=n_images, n_tasks=100)
    now = time.time()
    probe._seen.began = now - since_s - 5
    receipts: list[Receipt] = [
        Report(
            "v", "v", 1, "f", "encoded", segment=i, n_new=10, seconds=0.1 + 10 * wait_s, cpu_s=0.1, wait_s=10 * wait_s
        )
        for i in range(n_segments)
    ]
    positions = {"v": (list(range(10 * n_segments)), np.zeros(1))}
    busy_s = 10 * n_segments * encode_s / workers.threads
    cpu_s = 10 * n_segments * encode_s
    receipts.append(Written(0, [], positions, {"encode": busy_s}, encode_cpu_s=cpu_s, began=now - since_s))
    return probe, probe.knows_better(receipts)


def test_a_graph_goes_on_where_its_sizes_are_as_good():
    probe, is_now = seen(CPUS, CPUS, cpus=16, n_images=1e9)
    assert (is_now, probe.wanted) == (False, None)


def test_a_graph_begins_again_where_that_saves_more_than_it_takes():
    for n_images, since_s, worth in ((1e6, 20.0, True), (1e6, 5.0, False), (500, 20.0, False)):
        probe, is_now = seen(CPUS, CPUS, cpus=16, n_images=n_images, wait_s=0.1, since_s=since_s)
        assert is_now == worth
        assert (probe.wanted is not None) == worth
    probe, _ = seen(CPUS, CPUS, cpus=16, n_images=1e6, wait_s=0.1)
    assert probe.wanted.decoders == 64
    assert not probe.knows_better([]), "it is said once"


def test_after_some_minutes_a_graph_is_left_alone():
    probe, is_now = seen(CPUS, CPUS, cpus=16, n_images=1e9, since_s=301.0)
    assert not is_now
    slow = [
        Report("w", "w", 1, "f", "encoded", segment=i, n_new=10, seconds=60, cpu_s=0.1, wait_s=59) for i in range(99)
    ]
    assert not probe.knows_better(slow)


def test_a_model_that_was_taken_for_small_gets_more_encoders():
    few = CPUS.for_work([150.0], [1.0])
    assert (few.encoders, few.threads) == (1, 4)
    probe, is_now = seen(few, CPUS, cpus=16, n_images=1e5, encode_s=2.0)
    assert is_now
    assert probe.wanted.encoders == 4


def test_what_is_left_is_what_was_not_decoded():
    probe, _ = seen(CPUS, CPUS, cpus=16, n_images=1e6, n_segments=2)
    segments = pa.table({"video_id": ["v", "v", "v", "w"], "segment": pa.array([0, 1, 2, 0], pa.int32())})
    assert probe.rest(segments).to_pylist() == [{"video_id": "v", "segment": 2}, {"video_id": "w", "segment": 0}]
