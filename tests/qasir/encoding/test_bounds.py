import random
from dataclasses import replace
from math import inf

import pytest

from qasir.encoding.bounds import Bounds, Capacity, Cost

GPU = Capacity(cores=16, decoders=20, encoders=1, encoder_threads=0)
"""One GPU beside sixteen cores."""
CPU = Capacity(cores=2, decoders=3, encoders=2, encoder_threads=1)
"""Two cores for all."""


def test_beside_a_gpu_the_slower_stage_bounds():
    # Sixteen cores decode 200 seconds of video a second, a GPU encodes 2,800 frames of it.
    bounds = Bounds(Cost(decode_cpu_s=0.08, encode_s=1 / 2800, images=1.0), GPU)
    assert bounds.seconds(3600) == pytest.approx(18)
    assert bounds.stage == "decode"
    assert [bounds.share, bounds.headroom] == pytest.approx([1.0, 14])
    assert bounds.sentence(1) == "decoding bounds this: a model up to 14 times larger would take no longer"
    assert bounds.longer(13.9) == 1.0
    assert bounds.longer(28) == pytest.approx(2.0)


def test_where_encoding_bounds_a_larger_grid_helps_until_decoding_bounds():
    bounds = Bounds(Cost(decode_cpu_s=0.008, encode_s=0.01, images=1.0), GPU)
    assert bounds.stage == "encode"
    assert bounds.headroom == pytest.approx(1.0)
    assert bounds.sentence(1) == "encoding bounds this: N = 2 would take 75 % less time"
    assert bounds.sentence(2) == "encoding bounds this: N = 3 would take 56 % less time"
    assert bounds.sentence(3) == "encoding bounds this: N = 4 would take 44 % less time"
    assert bounds.sentence(16) == "encoding bounds this: a smaller model would shorten it"
    assert bounds.sentence(None) == "encoding bounds this: larger grids or smaller models would shorten it"
    slower = replace(bounds, cost=replace(bounds.cost, decode_cpu_s=0.08))
    assert slower.sentence(1) == "encoding bounds this: N = 2 would halve it"  # and no more: decoding takes half


def test_of_shared_cores_a_stage_has_its_share():
    bounds = Bounds(Cost(decode_cpu_s=0.01, encode_s=0.04, images=1.0), CPU)
    assert bounds.seconds(100) == pytest.approx(2.5)
    assert bounds.stage == "encode"
    assert [bounds.share, bounds.headroom] == pytest.approx([0.8, 1.0])
    assert (
        bounds.sentence(3)
        == "encoding bounds this, with 80 % of the work of the cores: N = 4 would take 35 % less time"
    )
    bounds = Bounds(Cost(decode_cpu_s=0.01, encode_s=0.01, images=1 / 9), CPU)
    assert bounds.sentence(3) == (
        "decoding bounds this, with 90 % of the work of the cores: a model twice as large would take 10 % longer"
    )


def test_a_decoder_that_waits_keeps_no_core_busy():
    """Of storage that is slow: the cores have time for more encoding, whether or not it shares them."""
    waiting = Cost(decode_cpu_s=0.01, encode_s=0.01, images=1.0, decode_wait_s=0.11)
    bounds = Bounds(waiting, CPU)
    assert bounds.seconds() == bounds.decode_s == pytest.approx(0.04)
    assert bounds.stage == "decode"
    assert bounds.headroom == pytest.approx(7)
    assert Bounds(waiting, replace(CPU, decoders=12)).seconds() == pytest.approx(0.01)


def test_a_stage_with_few_workers_bounds_although_cores_are_idle():
    one = Capacity(cores=16, decoders=20, encoders=1, encoder_threads=4)
    bounds = Bounds(Cost(decode_cpu_s=0.01, encode_s=0.04, images=1.0), one)
    assert bounds.stage == "encode"
    assert [bounds.share, bounds.seconds()] == pytest.approx([1.0, 0.01])
    one = replace(one, decoders=1, encoders=4)
    bounds = Bounds(Cost(decode_cpu_s=0.01, encode_s=0.01, images=1.0), one)
    assert bounds.stage == "decode"
    assert [bounds.share, bounds.headroom] == pytest.approx([1.0, 15])


def test_where_nothing_is_encoded_any_model_would_do():
    assert Bounds(Cost(0.01, 0.0, 0.0), GPU).headroom == inf


def test_encoding_that_takes_as_much_longer_as_there_is_room_takes_no_longer():
    rng = random.Random(0)
    for _ in range(200):
        cost = Cost(rng.uniform(0.001, 1), rng.uniform(0.001, 1), rng.uniform(0.01, 4), rng.choice([0.0, 0.5]))
        capacity = Capacity(rng.randint(1, 64), rng.randint(1, 80), rng.randint(1, 16), rng.choice([0, 1, 8]))
        bounds = Bounds(cost, capacity)
        assert bounds.longer(bounds.headroom) == pytest.approx(1.0)
        assert bounds.longer(1.01 * bounds.headroom) > 1.0
        assert 0.5 <= bounds.share <= 1.0
        assert bounds.sentence(3).startswith(f"{bounds.stage[:-1]}ing bounds this")
