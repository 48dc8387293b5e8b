from typing import Any

import numpy as np
import pytest

from qasir.errors import SpecError
from qasir.index.ragged import starts
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.named import made
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.methods.weighted import Weighted
from qasir.retrieval.scoring import score, score_each
from qasir.retrieval.vectors import Features, evenly_spaced


def unit(rng, n, dim=16):
    x = rng.normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def features(rng, lengths, dim=16):
    return Features(*starts(np.array(lengths)), unit(rng, sum(lengths), dim))


def reference(query, images, scoring):
    """METHODS by the letter, in float64, one pair at a time."""
    q, s = query.astype(np.float64), images.astype(np.float64)
    name, *numbers = scoring.describe().values()
    if name.startswith("sparse:"):
        kept = -(-len(s) // int(name[7:]) ** 2)
        s = s[[int((i + 0.5) * len(s) / kept) for i in range(kept)]]
    cosines = s @ q
    if name == "max":
        return cosines.max()
    if name == "mean":
        a = np.full(len(s), 1 / len(s))
    else:
        a = np.exp((cosines - cosines.max()) / numbers[0])
        a /= a.sum()
    if name == "weighted":
        return float(a @ cosines)
    v = (a[:, None] * s).sum(axis=0)
    return float(q @ v / np.linalg.norm(v))


SCORINGS = [
    Mean(),
    Max(),
    TextGated(),
    TextGated(gate_temperature=0.01),
    Weighted(0.01),
    Sparse(2, 0.05),
    Sparse(3),
    *(Attention(t) for t in (1e-4, 0.01, 0.07, 1.0, 100.0)),
]


@pytest.mark.parametrize("scoring", SCORINGS, ids=str)
@pytest.mark.parametrize("n_queries", [1, 23, 300])
def test_equals_the_slow_reference(scoring, n_queries):
    """Few queries and many take different ways to the norm; lengths below and above D do, too."""
    rng = np.random.default_rng(0)
    lengths = [1, 2, 40, 3, 3, 7, 1, 19, 250]
    images, queries = features(rng, lengths), unit(rng, n_queries)
    values = score(queries, images, scoring)
    for q in range(0, n_queries, 7):
        for v in range(images.n_videos):
            assert values[q, v] == pytest.approx(reference(queries[q], images.of(v), scoring), abs=2e-5)


@pytest.mark.parametrize("most_rows", [1, 10, 64, 10_000])
def test_blocks_hold_every_row_once(most_rows):
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 30, 200)
    order = rng.permutation(200)  # videos that do not lie in order of their numbers
    first = np.zeros(200, np.int64)
    first[order] = np.cumsum(lengths[order]) - lengths[order]
    seen = np.zeros(lengths.sum(), np.int64)
    videos = []
    for block in Features(first, lengths, unit(rng, lengths.sum())).blocks(most_rows):
        rows = np.arange(lengths.sum())[block.rows].reshape(len(block.videos), block.length)
        kept = np.ones(rows.shape, bool) if block.padding is None else ~block.padding
        np.add.at(seen, rows[kept], 1)
        for i, video in enumerate(block.videos):
            assert rows[i][kept[i]].tolist() == list(range(first[video], first[video] + lengths[video]))
        assert rows.size <= max(most_rows, block.length)
        videos += block.videos.tolist()
    assert (seen == 1).all()
    assert sorted(videos) == list(range(200))


def test_many_blocks_and_query_chunks_equal_one():
    """2,100 queries are two chunks of several blocks each; a few of them, one block."""
    rng = np.random.default_rng(4)
    images, queries = features(rng, rng.integers(1, 12, 300).tolist()), unit(rng, 2100)
    values = score(queries, images, Attention())
    for some in (slice(0, 40), slice(2030, 2070), slice(2090, 2100)):
        np.testing.assert_allclose(values[some], score(queries[some], images, Attention()), atol=1e-5)


@pytest.mark.parametrize("aggregation", ["attention", "mean", "max", "tib", "weighted"])
def test_padding_never_gets_weight(aggregation):
    """A video scores the same alone as beside one that is longer, even when the row that pads it would win."""
    rng = np.random.default_rng(1)
    images, queries = features(rng, [4, 5]), unit(rng, 6)
    images.vectors[3] = queries[0]  # the last row of the shorter one, which pads it
    images.vectors[0] = queries[0]
    method: Any = made(aggregation)
    both = score(queries, images, method)
    for v in range(2):
        alone = images.take(np.array([v]))
        np.testing.assert_allclose(both[:, v], score(queries, alone, method)[:, 0], atol=1e-6)


def test_scoring_several_ways_at_once_is_scoring_each():
    rng = np.random.default_rng(6)
    images, queries = features(rng, [3, 9, 1, 4]), unit(rng, 5)
    ways = (Weighted(0.01), TextGated(), Mean(), Max())
    for together, way in zip(score_each(queries, images, ways), ways, strict=True):
        np.testing.assert_allclose(together, score(queries, images, way), atol=1e-6)


def test_half_precision_is_close():
    rng = np.random.default_rng(7)
    images, queries = features(rng, [3, 9, 1, 4], 64), unit(rng, 5, 64)
    full = score(queries, images, Max())
    np.testing.assert_allclose(score(queries, images, Max(), precision="bf16"), full, atol=0.02)
    with pytest.raises(SpecError, match="fp32, bf16"):
        score(queries, images, Attention(), precision="fp8")


def test_temperature_goes_from_max_to_mean_pooling():
    rng = np.random.default_rng(2)
    images, queries = features(rng, [6, 9, 2]), unit(rng, 4)
    cold, hot = score(queries, images, Attention(1e-5)), score(queries, images, Attention(1e5))
    np.testing.assert_allclose(cold, score(queries, images, Max()), atol=1e-5)
    np.testing.assert_allclose(hot, score(queries, images, Mean()), atol=1e-4)


def test_opposite_super_images_do_not_divide_by_zero():
    one = np.eye(1, 8, dtype=np.float32)
    images = Features(np.array([0]), np.array([2]), np.concatenate([one, -one]))
    assert np.isfinite(score(one, images, Mean())).all()
    assert np.isfinite(score(one, images, Attention(1e6))).all()


@pytest.mark.parametrize(
    ("length", "every", "chosen"), [(8, 4, [2, 6]), (9, 4, [1, 4, 7]), (1, 9, [0]), (3, 1, [0, 1, 2])]
)
def test_sparse_frames_are_evenly_spaced(length, every, chosen):
    rows, kept = evenly_spaced(np.array([length]), every)
    assert rows.tolist() == chosen
    assert kept.tolist() == [len(chosen)]


def test_attention_drawn_is_attention_scored():
    rng = np.random.default_rng(0)
    s = unit(rng, 5, 8)
    similarity = s @ s[2]
    weights = Attention(0.05).attention(similarity)
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert weights.argmax() == 2
    assert Max().attention(similarity).tolist() == [0, 0, 1, 0, 0]
    assert Mean().attention(similarity).tolist() == pytest.approx([0.2] * 5)
    assert np.flatnonzero(Sparse(2, 1.0).attention(similarity)).tolist() == [1, 3]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_bad_temperature_is_an_error(temperature):
    with pytest.raises(SpecError, match="temperature"):
        Attention(temperature)
    with pytest.raises(SpecError, match="gate temperature"):
        TextGated(gate_temperature=temperature)


@pytest.mark.parametrize("aggregation", ["median", "sparse", "sparse:0", "sparse:x", "sparse:2:3"])
def test_an_unknown_aggregation_names_the_known_ones(aggregation):
    with pytest.raises(SpecError, match="attention, mean, max|N from 1 to 99"):
        made(aggregation)
