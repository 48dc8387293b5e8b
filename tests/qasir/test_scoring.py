import numpy as np
import pytest

from qasir.errors import SpecError
from qasir.index import SuperImageTable
from qasir.scoring import Scoring, score


def unit(rng, n, dim=16):
    x = rng.normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def table(rng, lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    n = int(offsets[-1])
    return SuperImageTable(
        [f"v{i}" for i in range(len(lengths))],
        offsets,
        unit(rng, n),
        np.arange(n) * 1.0,
        np.arange(n) + 1.0,
        np.ones(len(lengths)),
    )


def reference(query, images, scoring):
    """METHODS by the letter, in float64, one pair at a time."""
    q, s = query.astype(np.float64), images.astype(np.float64)
    cosines = s @ q
    if scoring.aggregation == "max":
        return cosines.max()
    if scoring.aggregation == "mean":
        a = np.full(len(s), 1 / len(s))
    else:
        a = np.exp((cosines - cosines.max()) / scoring.temperature)
        a /= a.sum()
    v = (a[:, None] * s).sum(axis=0)
    return float(q @ v / np.linalg.norm(v))


@pytest.mark.parametrize(
    "scoring",
    [Scoring("mean"), Scoring("max"), *(Scoring("attention", t) for t in (1e-4, 0.01, 0.07, 1.0, 100.0))],
    ids=str,
)
def test_equals_the_slow_reference(scoring):
    rng = np.random.default_rng(0)
    lengths = [1, 2, 40, 3, 3, 7, 1, 19, 250]
    images, queries = table(rng, lengths), unit(rng, 23)
    scores = score(queries, images, scoring)
    for q, query in enumerate(queries):
        for v in range(images.n_videos):
            mine = images.embeddings[images.offsets[v] : images.offsets[v + 1]]
            assert scores.values[q, v] == pytest.approx(reference(query, mine, scoring), abs=2e-5)
            assert scores.peaks[q, v] == images.offsets[v] + np.argmax(mine @ query)


@pytest.mark.parametrize("aggregation", ["attention", "mean", "max"])
def test_padding_never_gets_weight(aggregation):
    """A video scores the same alone as beside one that is longer, and padding that would win does not."""
    rng = np.random.default_rng(1)
    images, queries = table(rng, [4, 5]), unit(rng, 6)
    images.embeddings[0] = queries[0]  # what index -1 or 0 would fetch as padding
    both = score(queries, images, Scoring(aggregation))
    for v in range(2):
        low, high = images.offsets[v], images.offsets[v + 1]
        alone = SuperImageTable(
            ["v"],
            np.array([0, high - low]),
            images.embeddings[low:high],
            images.start_s[low:high],
            images.end_s[low:high],
            np.ones(1),
        )
        np.testing.assert_allclose(
            both.values[:, v], score(queries, alone, Scoring(aggregation)).values[:, 0], atol=1e-6
        )


def test_temperature_goes_from_max_to_mean_pooling():
    rng = np.random.default_rng(2)
    images, queries = table(rng, [6, 9, 2]), unit(rng, 4)
    cold, hot = score(queries, images, Scoring("attention", 1e-5)), score(queries, images, Scoring("attention", 1e5))
    np.testing.assert_allclose(cold.values, score(queries, images, Scoring("max")).values, atol=1e-5)
    np.testing.assert_allclose(hot.values, score(queries, images, Scoring("mean")).values, atol=1e-4)


def test_opposite_super_images_do_not_divide_by_zero():
    one = np.eye(1, 8, dtype=np.float32)
    images = SuperImageTable(["v"], np.array([0, 2]), np.concatenate([one, -one]), np.zeros(2), np.ones(2), np.ones(1))
    assert np.isfinite(score(one, images, Scoring("mean")).values).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_temperature_is_an_error(temperature):
    with pytest.raises(SpecError, match="temperature"):
        Scoring("attention", temperature)


def test_an_unknown_aggregation_names_the_known_ones():
    with pytest.raises(SpecError, match="attention, mean, max"):
        Scoring("median")  # type: ignore[arg-type]
