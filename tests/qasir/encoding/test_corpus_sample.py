import itertools
import math

import numpy as np
import pytest

from qasir.encoding.corpus_sample import (
    Estimated,
    Interval,
    linear,
    mean,
    ratio,
    spread,
    strata,
    student,
    total,
    turns,
    weights,
)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 100])
def test_an_order_has_all_and_every_beginning_of_it_is_spread(n):
    order = list(spread(n))
    assert sorted(order) == list(range(n))
    for length in range(2, n + 1):
        gaps = np.diff(sorted([*order[:length], n]))
        assert gaps.max() <= 2 * math.ceil(n / length)


def test_strata_have_about_the_same_total_and_every_file_once():
    sizes = [float(n) for n in np.random.default_rng(1).lognormal(3, 1, 500)]
    parts = strata(sizes, 8)
    assert sorted(i for part in parts for i in part) == list(range(500))
    assert len(parts) == 8
    ends = [(min(sizes[i] for i in part), max(sizes[i] for i in part)) for part in parts]
    assert all(high <= low for (_, high), (low, _) in itertools.pairwise(ends))
    totals = [sum(sizes[i] + np.mean(sizes) for i in part) for part in parts]
    assert max(totals) < 1.5 * min(totals)
    assert len(parts[-1]) < len(parts[0])  # large files count for more each


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 1), (3, 1), (4, 2), (40, 8)])
def test_few_files_have_few_strata(n, expected):
    assert len(strata([1.0] * n, 8)) == expected


def test_one_huge_file_among_small_ones_is_looked_at_first():
    parts = strata([1.0] * 99 + [1000.0], 8)
    assert parts[-1] == [99]
    assert next(turns(parts)) == 99


def test_a_total_of_all_files_is_exact():
    parts = strata([float(n) for n in range(10)], 3)
    found = total(parts, {i: float(i) for i in range(10)})
    assert found.value == 45.0
    assert found.interval() == Interval(45.0, 45.0, 45.0)
    assert found.interval().is_exact


def test_a_total_by_hand():
    # Two strata: 4 files of which 1 and 3 were seen (mean 2, variance 2), 2 files seen whole.
    found = total([[0, 1, 2, 3], [4, 5]], {0: 1.0, 1: 3.0, 4: 10.0, 5: 20.0})
    assert found.value == 4 * 2 + 30
    assert found.variance == pytest.approx(4**2 * (1 - 2 / 4) * 2 / 2)
    assert found.degrees == 1
    assert found.interval().high == pytest.approx(38 + 12.706 * math.sqrt(8))


def test_a_stratum_of_which_one_file_was_seen_joins_its_neighbour():
    found = total([[0, 1, 2], [3, 4, 5]], {0: 1.0, 3: 2.0, 4: 3.0})
    assert found.value == 6 * 2.0
    assert found.degrees == 2


def test_of_one_file_of_many_nothing_is_known_of_the_rest():
    found = total([[0, 1, 2]], {1: 5.0})
    assert found.value == 15.0
    assert found.interval() == Interval(15.0, 0.0, math.inf)


def test_a_ratio_by_hand():
    weight = {0: 1.0, 1: 1.0, 2: 1.0}
    y, x = {0: 2.0, 1: 6.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0}
    found = ratio([[0, 1, 2]], weight, y, x, is_timed=True)
    assert found.value == 2.0
    assert found.variance == pytest.approx(3 * np.var([0, 2, -2], ddof=1) / 36)
    assert ratio([[0, 1, 2]], weight, y, x).variance == 0.0  # all were seen
    alone = ratio([[0], [1, 2]], weight, y, x, is_timed=True)
    assert alone.variance == found.variance  # how one timing differs from the next is known of no file alone
    assert ratio([[0, 1, 2]], weight, {}, x).interval().high == math.inf


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Corpora of files of very different lengths, whose cost a second differs by a factor of four."""
    rng = np.random.default_rng(7)
    held = []
    for _ in range(150):
        seconds = rng.lognormal(5, 1, 300)
        cost = seconds * rng.choice([0.01, 0.02, 0.04], 300)
        sizes = seconds * rng.lognormal(0, 0.5, 300)
        parts = strata(sizes.tolist(), 8)
        looked = list(turns(parts))[:150]
        hours = total(parts, {i: seconds[i] for i in looked})
        again = strata([seconds[i] for i in looked], 8)
        again = [[looked[at] for at in part] for part in again]
        timed = [looked[at] for at in turns(strata([seconds[i] for i in looked], 8))][:40]
        rate = ratio(
            again, weights(parts, dict.fromkeys(looked)), {i: cost[i] for i in timed}, dict(enumerate(seconds))
        )
        found = hours.times(rate).interval()
        held.append(found.low <= cost.sum() <= found.high)
    assert 0.88 <= np.mean(held) <= 1.0


@pytest.mark.parametrize(("degrees", "expected"), [(1, 12.706), (2, 4.303), (7, 2.365), (12, 2.179), (200, 1.972)])
def test_students_t(degrees, expected):
    assert student(degrees) == pytest.approx(expected, rel=0.01)


def test_products_and_sums():
    one, other = Estimated(10.0, 1.0, 5.0), Estimated(2.0, 0.04, 8.0)
    assert one.times(other).variance == pytest.approx(4 * 1.0 + 100 * 0.04)
    assert linear([(1.0, one), (3.0, other)]).value == 16.0
    assert linear([(1.0, one), (3.0, other)]).variance == pytest.approx(1.0 + 9 * 0.04)
    assert one.scaled(2.0).variance == 4.0
    assert mean([1.0, 2.0, 3.0]).variance == pytest.approx(1 / 3)
    assert mean([5.0]).interval().is_exact
