import numpy as np
import pyarrow as pa
import pytest

from qasir import open_hybrid, open_index, open_tables
from qasir.errors import NoIndexError, QueryError, SpecError
from qasir.index import maintenance as upkeep
from qasir.retrieval import vector_index
from qasir.retrieval.hits import HITS_SCHEMA
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.cascade import Cascade
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.fusion import Fusion, standardised
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.opening import searcher_of
from qasir.retrieval.scoring import score
from qasir.retrieval.searcher import best_first
from qasir.retrieval.vector_source import StoredVectors
from qasir.retrieval.vectors import Features
from tests.indexes import DIM, give_texts, keyframe_s, make_index, new_index, unit, writing

LENGTHS = [1, 5, 3, 3, 8, 2, 4]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("made") / "i", LENGTHS, failed=["x/bad"])


@pytest.fixture
def searcher(made):
    return open_index(made.uri)


@pytest.fixture
def texts(searcher):
    return give_texts(searcher, unit(np.random.default_rng(5).standard_normal((6, DIM))))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Enough videos for a vector index to be something else than everything."""
    index = make_index(tmp_path_factory.mktemp("large") / "i", [4] * 2000, grid=1, cells=False)
    with writing(index) as writer:
        vector_index.build(writer)
    return index


def test_hits_become_tables(searcher, texts):
    hits = searcher.search(texts[0], top_k=3)
    assert hits.exact
    assert len(hits) == 3
    assert hits[0].score >= hits[1].score >= hits[2].score
    table = hits.to_arrow()
    assert table.schema == HITS_SCHEMA
    assert table["rank"].to_pylist() == [1, 2, 3]
    assert hits.to_pandas().video_id.tolist() == [hit.video_id for hit in hits]
    many = searcher.search_many(texts, top_k=2)
    assert len(many.to_arrow()) == 12
    assert many.to_pandas()["query"].unique().tolist() == texts
    assert [hit.video_id for hit in many[0]] == [hit.video_id for hit in hits[:2]]


def test_more_hits_than_videos_are_all_videos(searcher, texts):
    assert len(searcher.search(texts[0], top_k=100)) == len(LENGTHS)


def test_a_filter_leaves_the_ranking_of_what_it_keeps(searcher, texts):
    everything = searcher.search(texts[1], top_k=100)
    kept = searcher.select("duration_s > 10")
    assert 0 < len(kept) < len(LENGTHS)
    filtered = searcher.search(texts[1], top_k=100, where="duration_s > 10")
    assert list(filtered) == [hit for hit in everything if hit.video_id in kept]
    for method in (Attention(), CoarseToFine("video", 2), CoarseToFine("super-image", 2, ("super-image",))):
        assert searcher.search(texts[1], 3, method, where="codec = 'none'") == []
    # A filter stays inside its parentheses.
    assert len(searcher.search(texts[1], top_k=100, where="duration_s > 1e9 OR status = 'failed'")) == 0


@pytest.mark.parametrize(
    "where", ["no_such > 1", "duration_s >", "1 = 1) OR (1 = 1", "duration_s > 1 and more", "status", " "]
)
def test_a_bad_filter_is_an_error_that_names_the_columns(searcher, texts, where):
    with pytest.raises(QueryError, match="duration_s"):
        searcher.search(texts[0], where=where)


def test_candidates_of_the_vector_index_are_scored_exactly(large):
    searcher = open_index(large.uri)
    rng = np.random.default_rng(1)
    images = searcher.sides[0].vectors.load().features.vectors
    near = unit(images[rng.choice(len(images), 30)] + 0.3 * unit(rng.standard_normal((30, DIM))))
    names = give_texts(searcher, near)
    exact = searcher.search_many(names, 10, exact=True)
    found = searcher.search_many(names, 10)
    assert all(hits.exact for hits in exact)
    assert not any(hits.exact for hits in found)
    same = 0
    for a, b in zip(exact, found, strict=True):
        scores = {hit.video_id: hit.score for hit in a}
        same += len({hit.video_id for hit in b} & set(scores))
        assert all(hit.score == pytest.approx(scores[hit.video_id], abs=1e-5) for hit in b if hit.video_id in scores)
    assert same >= 0.95 * 300


@pytest.mark.parametrize(
    "where", ["video_id < 'v050'", "duration_s > 1e9", "video_id >= 'v300' AND n_super_images = 4"]
)
def test_filters_lose_nothing_through_the_vector_index(large, where):
    searcher = open_index(large.uri)
    names = give_texts(searcher, unit(np.random.default_rng(3).standard_normal((10, DIM))))
    exact = searcher.search_many(names, 10, where=where, exact=True)
    found = searcher.search_many(names, 10, where=where)
    same = [len({h.video_id for h in a} & {h.video_id for h in b}) for a, b in zip(exact, found, strict=True)]
    assert [len(hits) for hits in found] == [len(hits) for hits in exact]
    assert sum(same) >= 0.95 * sum(len(hits) for hits in exact)


def test_what_was_preloaded_is_found_as_what_is_read(large, monkeypatch):
    searcher, preloaded = open_index(large.uri), open_index(large.uri)
    names = give_texts(searcher, unit(np.random.default_rng(4).standard_normal((5, DIM))))
    give_texts(preloaded, searcher.encode(names))
    assert preloaded.preload() > 8000 * DIM * 2
    read = searcher.search_many(names, 10)
    monkeypatch.setattr(
        preloaded.sides[0].snapshot.images_dataset, "take", lambda *_, **__: pytest.fail("read from the table")
    )
    assert preloaded.search_many(names, 10) == read


def test_rows_that_came_after_the_vector_index_are_found(tmp_path):
    index = make_index(tmp_path / "i", [4] * 100, grid=1, cells=False)
    with writing(index) as writer:
        vector_index.build(writer)
    make_index(tmp_path / "i", [4] * 3, grid=1, cells=False, prefix="w", seed=9)
    searcher = open_index(index.uri)
    target = searcher.sides[0].vectors.load("super-image", ["w001"]).features.vectors[2]
    (text,) = give_texts(searcher, target[None])
    assert searcher.search(text, 1)[0].video_id == "w001"


def test_a_vector_index_needs_rows_and_asking_for_none_is_an_error(made, searcher, texts):
    with pytest.raises(NoIndexError, match="fewer than 256"), writing(made) as writer:
        vector_index.build(writer)
    with pytest.raises(NoIndexError, match="build_vector_index"):
        searcher.search(texts[0], exact=False)


# Coarse to fine


@pytest.mark.parametrize("recall", ["video", "super-image"])
@pytest.mark.parametrize("rerank", [("super-image",), ("cell",), ("super-image", "cell")])
def test_re_ranking_everything_is_scoring_every_video_finely(searcher, texts, recall, rerank):
    method = CoarseToFine(recall, 100, rerank)
    values = searcher.score(texts, method)
    queries = searcher.encode(texts)
    for q, query in enumerate(queries.astype(np.float64)):
        for v, video_id in enumerate(searcher.videos().video_ids):
            images = searcher.sides[0].vectors.load("super-image", [video_id]).features.vectors.astype(np.float64)
            cells = searcher.sides[0].vectors.load("cell", [video_id]).features.vectors.astype(np.float64)
            expected = 0.5 * searcher.sides[0].vectors.video_vectors()[v] @ query
            if "super-image" in rerank:
                gate = np.exp(images @ query / 0.1)
                pooled = (gate[:, None] * images).sum(0)
                expected += 0.8 * weighted(images @ query) + 0.2 * pooled @ query / np.linalg.norm(pooled)
            if "cell" in rerank:
                expected += 0.2 * weighted(cells @ query)
            assert values[q, v] == pytest.approx(expected, abs=1e-4)


def weighted(similarity):
    w = np.exp((similarity - similarity.max()) / 0.01)
    return float(w @ similarity / w.sum())


def test_only_recalled_videos_are_read_and_the_others_rank_below_in_coarse_order(searcher, texts, monkeypatch):
    read = []
    load = StoredVectors.load
    monkeypatch.setattr(StoredVectors, "load", lambda self, *asked: read.append(asked) or load(self, *asked))
    coarse = searcher.score(texts[:1], CoarseToFine("video", 100))  # everything, to fill nothing but the reading log
    read.clear()
    values = searcher.score(texts[:1], CoarseToFine("video", 2, ("super-image",)))[0]
    by_video = searcher.encode(texts[:1])[0] @ searcher.sides[0].vectors.video_vectors().T
    expected = sorted(searcher.videos().video_ids[v] for v in np.argsort(-by_video)[:2])
    assert read == [("super-image", expected)]
    order = np.argsort(-values)
    assert set(order[:2]) == set(np.argsort(-by_video)[:2])
    assert order[2:].tolist() == np.argsort(-by_video)[2:].tolist()
    assert coarse.shape == (1, len(LENGTHS))


def test_a_filter_comes_before_the_first_stage(searcher, texts, hybrid):
    """Or what a stage recalls could all be filtered away."""
    queries = searcher.encode(texts)
    by_video = queries[0] @ searcher.sides[0].vectors.video_vectors().T
    worst = searcher.videos().video_ids[int(by_video.argmin())]
    (hit,) = searcher.search(texts[0], 5, CoarseToFine("video", 1), where=f"video_id = '{worst}'")
    everything = searcher.score(texts[:1], CoarseToFine("video", 100))[0]
    assert hit.score == pytest.approx(everything[by_video.argmin()], abs=1e-5)
    both, names = hybrid
    liked_least = both.videos().video_ids[int(both.alone(1).score(names[:1])[0].argmin())]
    (hit,) = both.search(names[0], 5, Cascade(1), where=f"video_id = '{liked_least}'")
    large = both.alone(0).score(names[:1])[0]
    assert hit.score == pytest.approx(large[both.alone(0).videos().place[liked_least]], abs=1e-5)


def test_blank_cells_do_not_count(searcher):
    table = searcher.sides[0].vectors.load("cell")
    assert table.features.length.tolist() == [4 * n - 1 for n in LENGTHS]
    v = table.place["v001"]
    rows = slice(table.features.first[v], table.features.first[v] + table.features.length[v])
    assert table.start_s[rows].tolist() == list(range(19))
    assert table.end_s[rows].tolist() == list(range(1, 20))


def test_an_index_without_cells_is_not_asked_for_cells(tmp_path):
    searcher = open_index(make_index(tmp_path / "i", [2, 3], cells=False).uri)
    (text,) = give_texts(searcher, unit(np.ones((1, DIM))))
    with pytest.raises(QueryError, match="--no-cells"):
        searcher.search(text, 1, CoarseToFine(rerank=("cell",)))
    with pytest.raises(QueryError, match="--no-cells"):
        searcher.moments([text], [(0, "v000")], "cell")
    with pytest.raises(QueryError, match="needs an index of grid 1"):
        searcher.search(text, 1, Sparse(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recall": "frame"}, "video, super-image"),
        ({"recall_k": 0}, "recall-k 0"),
        ({"rerank": ("patch",)}, "super-image, cell"),
        ({"rerank": ()}, "super-image, cell"),
    ],
)
def test_bad_settings_say_what_is_possible(settings, message):
    with pytest.raises(QueryError, match=message):
        CoarseToFine(**settings)
    with pytest.raises(SpecError, match="gate temperature"):
        CoarseToFine(gate_temperature=0)


def test_fine_scores_of_single_vectors():
    rng = np.random.default_rng(0)
    queries, one = unit(rng.standard_normal((3, 8))), unit(rng.standard_normal((5, 8)))
    fine = {"super-image": Features.single(one), "cell": Features.single(one)}
    values = CoarseToFine(rerank=("super-image", "cell")).fine_scores(queries, one, fine)
    np.testing.assert_allclose(values, (0.5 + 0.8 + 0.2 + 0.2) * queries @ one.T, atol=1e-5)


# Hybrid


@pytest.fixture
def hybrid(made, tmp_path):
    make_index(tmp_path / "small", [2 * n for n in LENGTHS], seed=7, grid=1, cells=False, dim=DIM)
    searcher = open_hybrid(made.uri, str(tmp_path / "small"))
    rng = np.random.default_rng(8)
    names = give_texts(searcher, unit(rng.standard_normal((4, DIM))))
    give_texts(searcher, unit(rng.standard_normal((4, DIM))), side=1)
    return searcher, names


def test_fusion_is_a_weighted_sum_of_standardised_scores(hybrid):
    searcher, names = hybrid
    large, small = searcher.alone(0).score(names), searcher.alone(1).score(names, Max())
    expected = 0.7 * (large - large.mean(1, keepdims=True)) / large.std(1, keepdims=True)
    expected += 0.3 * (small - small.mean(1, keepdims=True)) / small.std(1, keepdims=True)
    found = searcher.score(names, Fusion(0.7, Attention(), Max()))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    alone = searcher.score(names, Fusion(1.0))
    assert (np.argsort(-alone, axis=1) == np.argsort(-large, axis=1)).all()


def test_a_filter_comes_before_the_first_stages_of_a_hybrid(hybrid):
    """With the weight all on one side, what that side recalls among the filter's videos is what ranks."""
    searcher, names = hybrid
    where = "duration_s < 20"
    alone = searcher.alone(0).search(names[0], 5, CoarseToFine("video", 2), where=where)
    both = searcher.search(names[0], 5, Fusion(1.0, CoarseToFine("video", 2), Max()), where=where)
    assert [hit.video_id for hit in both] == [hit.video_id for hit in alone]


def test_a_constant_row_standardises_to_zero():
    values = np.array([[0.3, 0.3, 0.3], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
    assert standardised(values)[:2].tolist() == [[0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(standardised(values)[2], [-1.224745, 0, 1.224745], atol=1e-5)


def test_a_cascade_scores_only_what_the_small_model_liked(hybrid):
    searcher, names = hybrid
    small, large = searcher.alone(1).score(names), searcher.alone(0).score(names)
    values = searcher.score(names, Cascade(3))
    for q in range(len(names)):
        order, liked = np.argsort(-values[q]), set(np.argsort(-small[q])[:3])
        assert set(order[:3]) == liked
        assert order[:3].tolist() == sorted(liked, key=lambda v: -large[q, v])
        assert order[3:].tolist() == [v for v in np.argsort(-small[q]) if v not in liked]
    everything = searcher.score(names, Cascade(100))
    np.testing.assert_allclose(everything, large, atol=1e-5)


def test_hybrid_hits_have_moments_and_obey_filters(hybrid):
    searcher, names = hybrid
    hits = searcher.search(names[0], 3, where="duration_s > 10")
    assert 0 < len(hits) <= 3
    assert all(hit.end_s > hit.start_s for hit in hits)


def test_moments_of_keyframes_are_where_their_cells_are(tmp_path):
    """And a hit's moment begins and ends at times of samples, whatever the distances between them."""
    index = make_index(tmp_path / "index", [3, 2], sampling="keyframes")
    cells = StoredVectors(index.snapshot()).load("cell")
    rows = cells.rows("v000")
    times = [keyframe_s(sample) for sample in range(12)]
    assert cells.start_s[rows].tolist() == times[:11]
    assert cells.end_s[rows].tolist() == times[1:]
    vector = cells.features.vectors[rows][5]
    searcher = searcher_of(index)
    (name,) = give_texts(searcher, vector[None])
    (found, *_) = searcher.search(name, 1)
    assert (found.video_id, found.start_s, found.end_s) == ("v000", times[5], times[6])


def test_the_finer_of_two_samplings_points_to_moments(tmp_path):
    """By how far apart the samples of keyframes are, not by how far they might be."""
    keyframes = make_index(tmp_path / "keyframes", [2, 2], sampling="keyframes")
    even = make_index(tmp_path / "even", [2, 2], grid=3)
    bare = make_index(tmp_path / "bare", [2, 2], sampling="keyframes", cells=False)
    assert open_hybrid(keyframes.uri, bare.uri).pointer == 0
    assert open_hybrid(bare.uri, even.uri).pointer == 1


def test_indexes_of_different_corpora_say_what_is_missing_where(made, tmp_path):
    other = make_index(tmp_path / "other", [2, 2], prefix="w")
    with pytest.raises(QueryError, match=r"lacks w000, w001; .*lacks v000, v001, v002, v003, v004 and 2 more"):
        open_hybrid(made.uri, other.uri)


def test_videos_that_failed_in_one_index_are_left_out(made, tmp_path):
    small = make_index(tmp_path / "small", LENGTHS[:-1], failed=[f"v{len(LENGTHS) - 1:03}", "x/bad"])
    searcher = open_hybrid(made.uri, small.uri)
    assert len(searcher.videos().video_ids) == len(LENGTHS) - 1
    assert searcher.left_out == ("v006",)


@pytest.mark.parametrize("method", [Fusion(), Cascade(3)], ids=["fusion", "cascade"])
@pytest.mark.parametrize("is_large", [True, False], ids=["large", "small"])
def test_a_hybrid_of_which_one_index_is_a_commit_ahead_answers_from_what_both_have(tmp_path, caplog, method, is_large):
    """As if the others were in neither, filters too; and it says how many they are, and why."""
    indexes = [make_index(tmp_path / name, [2] * 30, seed=seed) for seed, name in enumerate(("large", "small"))]
    uris = [index.uri for index in indexes]
    ahead, behind = indexes if is_large else indexes[::-1]
    with writing(behind) as writer:
        writer.remove(["v004"])
    (row,) = ahead.snapshot().videos(where="video_id = 'v007'").to_pylist()
    images = ahead.snapshot().super_images(video_ids=["v007"])
    again = pa.array(["newer"] * len(images), pa.string())
    images = images.set_column(images.schema.get_field_index("fingerprint"), "fingerprint", again)
    with writing(ahead) as writer:
        writer.commit_super_images(ahead.write_super_images(images))
        writer.upsert_videos([row | {"fingerprint": "newer"}])
    searcher = open_hybrid(*uris)
    assert searcher.left_out == ("v004", "v007")
    assert "2 videos are left out: 1 are known to one index only, 1 in different versions of the file" in caplog.text
    queries = [unit(np.random.default_rng(i).standard_normal((4, DIM))) for i in range(2)]
    names, _ = (give_texts(searcher, vectors, side) for side, vectors in enumerate(queries))
    scores = searcher.score_vectors(queries, method)
    hits = searcher.search(names[0], 30, method, where="video_id < 'v010'")
    assert {hit.video_id for hit in hits} == {f"v{v:03}" for v in range(10) if v not in (4, 7)}
    for index in indexes:
        with writing(index) as writer:
            writer.remove(["v004", "v007"])
    np.testing.assert_allclose(scores, open_hybrid(*uris).score_vectors(queries, method), atol=1e-6)


def test_a_tenth_apart_is_one_corpus_and_more_are_two(tmp_path):
    large, small = (make_index(tmp_path / name, [1] * 20) for name in ("large", "small"))
    with writing(small) as writer:
        writer.remove(["v001"])
    rows = small.snapshot().videos().to_pylist()
    with writing(small) as writer:
        writer.upsert_videos([rows[0] | {"fingerprint": "other"}])
    assert len(open_hybrid(large.uri, small.uri).left_out) == 2
    with writing(small) as writer:
        writer.upsert_videos([rows[1] | {"fingerprint": "other"}])
    with pytest.raises(
        QueryError, match=r"small lacks v001; they have different versions of v000, v002 \(more than 10%"
    ):
        open_hybrid(large.uri, small.uri)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_bad_weights_and_depths(weight):
    with pytest.raises(QueryError, match="weight"):
        Fusion(weight)
    with pytest.raises(QueryError, match="top-k 0"):
        Cascade(0)


# Ties, emptiness, long queries


def test_ties_keep_the_order_of_ids():
    values = np.array([[1.0, 2.0, 2.0, 2.0, 0.0]], np.float32)
    assert best_first(values, 2).tolist() == [[1, 2]]
    assert best_first(values, 9).tolist() == [[1, 2, 3, 0, 4]]


def test_an_empty_index_and_an_unknown_version(made, tmp_path):
    empty = new_index(tmp_path / "i", made.spec)
    for method in (Attention(), CoarseToFine()):
        searcher = open_index(empty.uri)
        (text,) = give_texts(searcher, unit(np.ones((1, DIM))))
        with pytest.raises(NoIndexError, match="no encoded videos"):
            searcher.search(text, 1, method)
    with pytest.raises(NoIndexError, match="its tags: none"):
        open_index(made.uri, version="reindex-1")


def test_a_snapshot_stays_what_it_was(tmp_path):
    index = make_index(tmp_path / "i", [2, 3])
    before = open_index(index.uri)
    with writing(index) as writer:
        writer.remove(["v000"])
    assert open_index(index.uri).videos().video_ids == ["v001"]
    assert before.videos().video_ids == ["v000", "v001"]
    assert before.sides[0].vectors.load().n_videos == 2


def test_equal_to_scoring_the_features_by_hand(searcher, texts):
    queries = searcher.encode(texts)
    np.testing.assert_array_equal(
        searcher.score(texts), score(queries, searcher.sides[0].vectors.load().features, Attention())
    )


def test_a_tagged_version_is_searched_as_it_was(tmp_path):
    index = make_index(tmp_path / "i", [2, 3])
    with writing(index) as writer:
        tag = upkeep.tag(writer)
        writer.remove(["v000"])
    assert open_index(index.uri).videos().video_ids == ["v001"]
    assert open_index(index.uri, version=tag).sides[0].vectors.load().video_ids == ["v000", "v001"]
    tables = open_tables(index.uri, version=tag)
    assert tables.tags() == [tag]
    assert len(tables.super_images([])) == 5
    with pytest.raises(NoIndexError, match=tag):
        open_tables(index.uri, version="reindex-0")


def test_the_rule_for_other_tools_leaves_out_what_is_not_readable(tmp_path):
    index = make_index(tmp_path / "i", [2, 3])
    assert index.snapshot().rule() == "true"
    stale = index.snapshot().super_images(video_ids=["v001"])
    other = stale.set_column(1, "fingerprint", pa.array(["it's old"] * len(stale)))
    with writing(index) as writer:
        writer.commit_super_images(index.write_super_images(other))
    tables = index.snapshot()
    assert len(tables.super_images([])) == 5
    assert tables.images_dataset.count_rows() == 8
    assert tables.images_dataset.count_rows(filter=tables.rule()) == 5
    views = tables.duckdb()
    assert views.execute("SELECT count(*) FROM super_images").fetchall() == [(5,)]
