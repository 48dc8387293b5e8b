import numpy as np

from qasir.app.units import Units
from tests.indexes import unit


def units(vectors, query):
    start = np.arange(len(vectors), dtype=np.float64)
    return Units(start, start + 1, vectors, vectors @ query)


def test_a_cut_to_something_else_does_not_stand_for_a_moment_though_it_fits_best():
    rng = np.random.default_rng(0)
    query, scene, other = unit(rng.standard_normal((3, 64)))
    vectors = unit(np.stack([scene + 0.4 * query] * 6 + [other + 0.6 * query]) + 0.01 * rng.standard_normal((7, 64)))
    moment = units(vectors, query)
    assert moment.cosine.argmax() == 6
    assert moment.typical_s("cell") < 6
    assert moment.typical_s("super-image") < 6.5


def test_it_is_one_of_the_half_that_fits_best():
    rng = np.random.default_rng(1)
    query = unit(rng.standard_normal(16))
    for n in range(1, 9):
        moment = units(unit(rng.standard_normal((n, 16))), query)
        assert int(moment.typical_s("cell")) in np.argsort(-moment.cosine)[: (n + 1) // 2]


def test_few_are_shown_and_the_one_that_fits_best_is_among_them():
    vectors = unit(np.random.default_rng(2).standard_normal((40, 16)))
    moment = units(vectors, vectors[17])
    shown = moment.shown(9)
    assert len(shown) == 9
    assert 17.0 in shown.start_s
    assert len(moment.within(3.0, 7.0)) == 4
