import numpy as np
import pytest

from qasir.app.cutoff import Sample, noise_of
from qasir.index.index import Index
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.opening import open_index, side_of
from tests.indexes import DIM, give_texts, make_index, unit


def test_the_cut_off_is_what_the_best_of_so_many_reaches_by_chance():
    rng = np.random.default_rng(0)
    scores = (0.2 + 0.05 * rng.standard_normal((300, 4000))).astype(np.float32)
    above = [int((row >= noise_of(row, "cell").cutoff).sum()) for row in scores]
    assert np.mean(above) == pytest.approx(1.0, abs=0.2)
    sample = noise_of(scores[0, :1000], "cell", 4000)  # a sample says the same of all
    assert (sample.n, sample.of) == (4000, "cell")
    assert sample.cutoff == pytest.approx(noise_of(scores[0], "cell").cutoff, abs=0.02)


def test_what_fits_does_not_raise_it():
    scores = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    fitting = scores.copy()
    fitting[:200] = 9.0
    assert noise_of(fitting, "cell").cutoff == pytest.approx(noise_of(scores, "cell").cutoff, abs=0.6)


def test_of_few_scores_or_such_that_are_none_nothing_is_said():
    assert noise_of(np.zeros(29, np.float32), "video") is None
    some = np.where(np.arange(58) % 2, np.float32(0.5), -np.inf)
    assert noise_of(some, "video") is None


def test_a_sample_says_of_units_and_of_super_images_as_the_method_scores_them(tmp_path):
    make_index(tmp_path / "i", [3] * 30)
    side = side_of(Index.open(str(tmp_path / "i")))
    sample = Sample(side)
    assert (sample.n_images, sample.n_units, sample.granularity) == (90, 360, "cell")
    query = unit(np.random.default_rng(2).standard_normal((2, DIM)))
    cells, images = side.vectors.load("cell").features.vectors, side.vectors.load().features.vectors
    expected = [noise_of(row, "cell", 360) for row in query @ cells.T]
    assert [one.cutoff for one in sample.of_units(query)] == pytest.approx([one.cutoff for one in expected], abs=1e-5)
    found = sample.of_images(query, Attention())
    expected = [noise_of(row, "super-image", 90) for row in query @ images.T]
    assert [one.cutoff for one in found] == pytest.approx([one.cutoff for one in expected], abs=1e-5)
    assert sample.of_images(query, CoarseToFine()) == [None, None]


def test_the_same_sample_is_taken_whenever_an_index_is_opened(tmp_path):
    make_index(tmp_path / "i", [40] * 120, cells=False)
    searcher = open_index(str(tmp_path / "i"))
    give_texts(searcher, unit(np.random.default_rng(3).standard_normal((1, DIM))))
    query = searcher.encode(["0"])
    first, second = (Sample(open_index(str(tmp_path / "i")).side).of_units(query) for _ in range(2))
    assert first == second
    assert first[0].n == 4800


def test_of_what_is_all_alike_nothing_is_said():
    scores = (0.9 + 0.05 * np.random.default_rng(3).standard_normal(2000)).astype(np.float32)
    assert noise_of(scores, "cell").cutoff is None
    assert noise_of(scores, "video").cutoff > 1.0, "standardised scores may be above 1"
