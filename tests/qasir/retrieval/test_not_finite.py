"""An index of an older version may hold vectors with NaN or infinite numbers: no evidence, which spoils nothing."""

import math

import numpy as np
import pytest

from qasir import open_index
from qasir.evaluation.evaluate import evaluate, rankings_table
from qasir.evaluation.metrics import ranks
from qasir.evaluation.query import Query
from qasir.evaluation.report.page import render_report
from qasir.index.finite import is_finite
from qasir.retrieval import vector_index
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.cascade import Cascade
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.fusion import Fusion, standardised
from qasir.retrieval.methods.named import HYBRIDS, METHODS, made
from qasir.retrieval.opening import open_searcher
from qasir.retrieval.vector_source import StoredVectors
from tests.indexes import DIM, break_rows, give_texts, make_index, unit, writing

LENGTHS = [3, 5, 2, 4, 6, 3, 3, 2]
PARTLY, WHOLLY, LOST = "v001", "v003", "v005"
"""Videos of which one super image is broken, all are, and none is there though there should be some."""
BROKEN = {PARTLY: [2], WHOLLY: [0, 1, 2, 3]}
USABLE = [v for v in range(len(LENGTHS)) if v not in (3, 5)]
QUERIES = unit(np.random.default_rng(9).standard_normal((20, DIM)))

SINGLE = [made(f"{name}:1" if kind.argument else name) for name, kind in METHODS.items()]
TWO_STAGED = [
    CoarseToFine(recall=recall, recall_k=k, rerank=rerank)
    for recall in ("video", "super-image")
    for k in (2, 50)
    for rerank in (("super-image",), ("cell",), ("super-image", "cell"))
]
HYBRID = [kind() for kind in HYBRIDS.values()] + [Fusion(weight=0.0), Fusion(weight=1.0), Cascade(2), Cascade(5)]


def broken_index(uri, number=np.nan, **options):
    index = make_index(uri, LENGTHS, grid=1, **options)
    break_rows(index, BROKEN, number=number, lost=[LOST])
    return index


def without_them(uri, **options):
    """The same index if what is broken had never been there."""
    index = make_index(uri, LENGTHS, grid=1, **options)
    with writing(index) as writer:
        writer.remove([WHOLLY, LOST])
    break_rows(index, {PARTLY: [2]})
    index.table("super_images").delete(f"video_id = '{PARTLY}' AND position = 2")
    return index


@pytest.fixture(scope="module", params=[np.nan, np.inf], ids=["nan", "inf"])
def pair(request, tmp_path_factory):
    """(a broken index, the same without what is broken), each opened anew."""
    folder = tmp_path_factory.mktemp("pair")
    return broken_index(folder / "broken", request.param).uri, without_them(folder / "clean").uri


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """(another model's index of the same videos, the same of those that can be used)."""
    folder = tmp_path_factory.mktemp("others")
    whole, without = (make_index(folder / name, LENGTHS, seed=1, grid=1) for name in ("whole", "without"))
    with writing(without) as writer:
        writer.remove([WHOLLY, LOST])
    return whole.uri, without.uri


def same_ranks(scores, expected):
    """Videos that can be ranked are, as they would be without the others, which come last."""
    assert not np.isnan(scores).any()
    assert np.isneginf(np.delete(scores, USABLE, axis=1)).all()
    assert np.isfinite(scores[:, USABLE]).all()
    np.testing.assert_array_equal(np.argsort(-scores[:, USABLE], axis=1), np.argsort(-expected, axis=1))


@pytest.mark.parametrize("method", [*SINGLE, *TWO_STAGED], ids=str)
def test_every_method_ranks_the_others_as_without_them(pair, method):
    scores, expected = (open_index(uri).score_vectors([QUERIES], method) for uri in pair)
    same_ranks(scores, expected)
    if method not in TWO_STAGED:  # those put what was not recalled so far below
        np.testing.assert_allclose(scores[:, USABLE], expected, atol=1e-6)


@pytest.mark.parametrize("method", HYBRID, ids=str)
@pytest.mark.parametrize("is_large", [True, False], ids=["large", "small"])
def test_hybrids_rank_the_others_as_without_them(pair, others, method, is_large):
    """Broken in one of the two indexes is unusable in both."""
    both = [uris if is_large else uris[::-1] for uris in zip(pair, others, strict=True)]
    scores, expected = (open_searcher(uris).score_vectors([QUERIES, QUERIES], method) for uris in both)
    if isinstance(method, Cascade) and is_large:  # it is only known to be unusable when it was recalled
        assert not np.isnan(scores).any()
    else:
        same_ranks(scores, expected)


def test_an_index_is_named_with_how_many_rows_once(pair, caplog):
    searcher = open_index(pair[0])
    for _ in range(2):
        searcher.score_vectors([QUERIES], Attention())
        searcher.score_vectors([QUERIES], CoarseToFine())
    (said,) = [record.getMessage() for record in caplog.records]
    assert pair[0] in said
    assert "5 of 25 super images that were read have numbers that are not finite" in said
    assert "reindex_corpus.py --repair" in said


def test_searching_finds_no_video_without_evidence_and_its_moments_are_of_the_others(pair):
    searcher = open_index(pair[0])
    texts = give_texts(searcher, QUERIES)
    hits = searcher.search_many(texts, top_k=50)
    assert {len(each) for each in hits} == {len(USABLE)}
    for hit in (hit for each in hits for hit in each):
        assert all(map(math.isfinite, (hit.score, hit.start_s, hit.end_s)))
        assert (hit.video_id, hit.start_s) != (PARTLY, 2.0)


def test_broken_cells_are_left_out(tmp_path):
    index = make_index(tmp_path / "i", [3, 4, 2])
    break_rows(index, {"v001": [0, 1, 2, 3], "v002": [1]}, cells=True)
    searcher = open_index(index.uri)
    texts = give_texts(searcher, QUERIES)
    assert searcher.sides[0].vectors.load("cell", ["v002"]).features.length.tolist() == [4]
    scores = searcher.score_vectors([QUERIES], CoarseToFine(rerank=("cell",)))
    assert np.isneginf(scores[:, 1]).all()
    assert np.isfinite(scores[:, [0, 2]]).all()
    assert np.isfinite(searcher.moments(texts, [(0, "v001"), (1, "v002")])).all()


def test_evaluating_counts_a_video_without_evidence_as_found_last(tmp_path):
    index = broken_index(tmp_path / "i", dim=192)
    searcher = open_index(index.uri)
    texts = give_texts(searcher, unit(np.random.default_rng(9).standard_normal((len(LENGTHS), 192))))
    queries = [Query(f"q{v}", texts[v], f"v{v:03}", ((0.0, 1.0),)) for v in range(len(LENGTHS))]
    result = evaluate(searcher, queries)
    assert result.rank[[3, 5]].tolist() == [8, 8]
    assert (result.rank[USABLE] <= len(USABLE)).all()
    assert all(map(math.isfinite, result.metrics.values()))
    table = rankings_table(result, searcher)
    assert np.isfinite(table["start_s"].to_numpy()).all()
    page = render_report(result, searcher, title="broken")
    assert "nan" not in page.lower().replace("nano", "")


def test_equal_ranks_at_minus_infinity_count_against_us():
    scores = np.array([[0.5, -np.inf, -np.inf, 0.1], [-np.inf] * 4], np.float32)
    relevant = np.array([[False, True, False, False], [True, False, False, False]])
    assert ranks(scores, relevant).tolist() == [4, 4]


def test_standardising_passes_over_what_is_minus_infinity():
    values = np.array([[1.0, -np.inf, 3.0], [-np.inf] * 3, [2.0, 2.0, -np.inf]], np.float32)
    infinite = -np.inf
    expected = [[-1.0, infinite, 1.0], [infinite] * 3, [0.0, 0.0, infinite]]
    np.testing.assert_allclose(standardised(values), expected, atol=1e-6)


def test_the_vector_index_is_built_and_searched_in_spite_of_them(tmp_path):
    index = make_index(tmp_path / "i", [4] * 200, grid=1, cells=False)
    break_rows(index, {f"v{v:03}": [0, 1, 2, 3] if v % 2 else [1] for v in range(40)})
    with writing(index) as writer:
        vector_index.build(writer)
    searcher = open_index(index.uri)
    for query in QUERIES:
        hits = searcher.search_vector(query, top_k=10)
        assert [hit.video_id for hit in hits] == [
            searcher.videos().video_ids[v]
            for v in np.argsort(-searcher.score_vectors([query[None]])[0], kind="stable")[:10]
        ]


def test_only_what_is_broken_is_read_for_the_mean_vectors(tmp_path, monkeypatch):
    index = broken_index(tmp_path / "i")
    read = []
    load = StoredVectors.load
    monkeypatch.setattr(StoredVectors, "load", lambda self, *asked: read.append(asked) or load(self, *asked))
    vectors = StoredVectors(index.snapshot()).video_vectors()
    assert read == [("super-image", [PARTLY, WHOLLY, LOST])]
    assert np.isnan(vectors).any(axis=1).tolist() == [v in (3, 5) for v in range(len(LENGTHS))]
    features = open_index(index.uri).sides[0].vectors.load().features
    np.testing.assert_allclose(vectors[1], features.means[1], atol=1e-6)


def test_bits_tell_what_is_finite():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)[:, None]
    np.testing.assert_array_equal(is_finite(every), np.isfinite(every[:, 0]))
