import math

import pytest

from qasir.encoding.bounds import Capacity
from qasir.encoding.corpus_sample import Estimated
from qasir.encoding.forecast import EFFICIENCY, WRITE_CPU_S, Totals, seconds_of, startup

SHARED = Capacity(cores=4.0, decoders=5, encoders=4, encoder_threads=1)
ON_GPU = Capacity(cores=15.0, decoders=18, encoders=1, encoder_threads=0)
EXACTLY = Totals(Estimated(3600.0), (Estimated(400.0),), Estimated(60.0), Estimated(0.0), 0.0)


def test_on_shared_cores_all_work_adds_up():
    bounds, seconds = seconds_of(EXACTLY, [Estimated(0.2)], SHARED, 10.0)
    assert seconds.value == pytest.approx(10 + (60 + 400 * WRITE_CPU_S + 400 * 0.2) / 4 / EFFICIENCY)
    assert bounds.stage == "encode"


def test_with_gpus_the_slower_stage_counts():
    bounds, seconds = seconds_of(EXACTLY, [Estimated(0.001)], ON_GPU, 10.0)
    assert seconds.value == pytest.approx(10 + (60 + 400 * WRITE_CPU_S) / 15 / EFFICIENCY)
    assert bounds.stage == "decode"
    bounds, seconds = seconds_of(EXACTLY, [Estimated(0.1)], ON_GPU, 10.0)
    assert seconds.value == pytest.approx(10 + 400 * 0.1 / EFFICIENCY)
    assert bounds.stage == "encode"


def test_several_indexes_encode_one_after_another():
    both = Totals(Estimated(3600.0), (Estimated(400.0), Estimated(100.0)), Estimated(60.0), Estimated(0.0), 0.0)
    _, seconds = seconds_of(both, [Estimated(0.1), Estimated(0.4)], ON_GPU, 0.0)
    assert seconds.value == pytest.approx((40 + 40) / EFFICIENCY)


def test_what_the_sample_leaves_open_widens_the_interval():
    _, exact = seconds_of(EXACTLY, [Estimated(0.2)], SHARED, 10.0)
    open_ = Totals(Estimated(3600.0), (Estimated(400.0),), Estimated(60.0, 15.0**2, 10.0), Estimated(0.0), 0.0)
    _, wider = seconds_of(open_, [Estimated(0.2)], SHARED, 10.0)
    assert exact.low > wider.low >= 8.0
    assert wider.high - wider.value == pytest.approx(wider.value - wider.low)
    # 33 seconds of a core more or less, on four, beside what efficiency and start-up differ.
    assert wider.high - wider.value == pytest.approx(
        math.hypot(2.228 * 15 / 4 / EFFICIENCY, exact.high - exact.value), rel=0.01
    )
    unknown = Totals(Estimated(3600.0), (Estimated(400.0),), Estimated(60.0, math.inf, 0.0), Estimated(0.0), 0.0)
    assert seconds_of(unknown, [Estimated(0.2)], SHARED, 10.0)[1].high == math.inf


def test_nothing_to_do_takes_start_up():
    nothing = Totals(Estimated(0.0), (Estimated(0.0),), Estimated(0.0), Estimated(0.0), 0.0)
    bounds, seconds = seconds_of(nothing, [Estimated(0.2)], SHARED, 10.0)
    assert (bounds, seconds.value) == (None, 10.0)


def test_encoders_that_share_cores_load_their_models_on_them():
    assert startup(5.0, 4.0, 3.0, SHARED) == 5 + 4 + 3 * 3 / 4
    assert startup(5.0, 4.0, 3.0, ON_GPU) == 9.0
