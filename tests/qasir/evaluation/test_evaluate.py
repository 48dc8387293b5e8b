import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from qasir.errors import NoIndexError, QueryError
from qasir.evaluation.cost import cost
from qasir.evaluation.evaluate import RANKINGS_SCHEMA, evaluate, evaluate_video_to_text, rankings_table
from qasir.evaluation.metrics import METRICS
from qasir.evaluation.query import Query
from qasir.evaluation.query_files import read_queries
from qasir.evaluation.report.examples import cell_light
from qasir.evaluation.report.page import render_report
from qasir.evaluation.tuning import check_choices, chosen, sum_r
from qasir.index.index import Index, embedding_column
from qasir.index.snapshot import matrix
from qasir.retrieval.methods.attention import TEMPERATURES, Attention
from qasir.retrieval.methods.cascade import Cascade
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.fusion import WEIGHTS, Fusion
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.opening import open_index, searcher_of, together
from qasir.retrieval.ranker import ExactRanker
from qasir.retrieval.searcher import Searcher
from qasir.retrieval.vector_source import StoredVectors
from qasir.vlm.flops import architecture_gflops, image_gflops
from qasir.vlm.model import Vlm
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.weights import resolve
from tests.indexes import make_index, new_index, unit, writing


@pytest.fixture(scope="module")
def searcher(demo_index) -> Searcher:
    return open_index(demo_index.uri)


@pytest.fixture(scope="module")
def queries(demo):
    return read_queries(demo / "queries.jsonl")


def test_the_packaged_model_finds_rendered_moments(searcher, queries):
    """Far above chance (a quarter of the queries at rank 1); a broken scorer, tiler or model falls to it."""
    result = evaluate(searcher, queries, Attention())
    assert result.metrics["R@1"] > 55.0
    assert result.n_videos == 4
    assert result.saturated == ["R@5", "R@10", "R@100"]


def test_a_hit_points_into_the_moment(searcher, queries):
    right = 0
    for query in queries:
        hit = searcher.search(query.text, top_k=4)[0]
        start, end = query.moments[0]
        right += hit.video_id == query.video_id and hit.start_s < end and hit.end_s > start
    assert right / len(queries) > 0.45


def test_many_queries_give_what_single_ones_give(searcher, queries):
    texts = [query.text for query in queries[:5]] + [queries[0].text]
    together = searcher.search_many(texts, top_k=2)
    assert [len(hits) for hits in together] == [2] * 6
    for text, hits in zip(texts, together, strict=True):
        alone = searcher.search(text, top_k=2)
        assert [h.video_id for h in alone] == [h.video_id for h in hits]
        np.testing.assert_allclose([h.score for h in alone], [h.score for h in hits], atol=1e-5)
    with pytest.raises(QueryError, match="empty"):
        searcher.search(" ")
    with pytest.raises(QueryError, match="top-k 0"):
        searcher.search("a cat", top_k=0)


def test_queries_without_a_video_are_counted_or_missed(searcher, queries):
    lost = [Query("x", "a cat", "nowhere"), Query("y", "a dog", "nowhere")]
    skipped = evaluate(searcher, [*queries, *lost], Attention())
    missed = evaluate(searcher, [*queries, *lost], Attention(), missing="miss")
    assert skipped.skipped == missed.skipped == {"not_in_index": 2, "failed_video": 0, "left_out": 0}
    assert len(skipped.rank) == len(queries)
    assert missed.rank[-2:].tolist() == [101, 101]
    n = len(queries)
    assert missed.metrics["R@100"] == pytest.approx(100 * n / (n + 2))
    with pytest.raises(QueryError, match="none of the 2 queries"):
        evaluate(searcher, lost, Attention())


def test_metrics_json_has_the_promised_keys(searcher, queries):
    facts = json.loads(json.dumps(evaluate(searcher, queries, Attention()).to_dict()))
    assert {
        "n_queries",
        "n_videos",
        "skipped",
        "left_out",
        "metrics",
        "ci95",
        "by_mv",
        "moments",
        "gflops",
        "spec",
        "scoring",
        "seconds",
    } <= set(facts)
    assert set(facts["metrics"]) == set(facts["ci95"]) == set(METRICS)
    assert all(low <= facts["metrics"][name] <= high for name, (low, high) in facts["ci95"].items())
    assert [b["lo"] for b in facts["by_mv"]] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert sum(b["n_queries"] for b in facts["by_mv"]) == len(queries)


def test_rankings_are_the_scores_in_order(searcher, queries, tmp_path):
    result = evaluate(searcher, queries, Attention())
    table = rankings_table(result, searcher)
    assert table.schema == RANKINGS_SCHEMA
    pq.write_table(table, tmp_path / "r.parquet")
    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert len(rows) == 4 * len(queries)
    first = [row for row in rows if row["query_id"] == queries[0].query_id]
    assert [row["rank"] for row in first] == [1, 2, 3, 4]
    assert first == sorted(first, key=lambda row: -row["score"])
    place = [row["video_id"] for row in first].index(queries[0].video_id)
    assert result.rank[0] == place + 1


def test_an_empty_index_cannot_be_searched(searcher, tmp_path):
    empty = new_index(tmp_path / "i", searcher.sides[0].index.spec)
    with pytest.raises(NoIndexError, match="no encoded videos"):
        open_index(empty.uri).search("a cat")


def test_the_report_stands_alone(searcher, queries):
    page = render_report(evaluate(searcher, queries, Attention()), searcher, title="A <title>")
    assert "A &lt;title&gt;" in page
    assert page.count("data:image/jpeg;base64,") > 10
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="data:' in page
    assert "<link" not in page
    assert "says nothing: only 4 videos" in page


def test_the_report_has_its_charts_with_the_numbers_in_colours_for_the_dark_too(searcher, queries):
    result = evaluate(searcher, queries, Attention())
    page = render_report(result, searcher, title="t")
    assert f"<title>R@1 = {result.metrics['R@1']:.1f} %</title>" in page
    filled = [b for b in result.by_mv if b.metrics]
    assert all(f"{b.n_queries} queries: R@1 {b.metrics['R@1']:.1f} %" in page for b in filled)
    assert page.count('class="chart"') == 2
    assert page.count('class="timeline"') == page.count("<title>predicted: ") > 4
    assert "<script" not in page
    used = set(re.findall(r"var\((--\w+)\)", page))
    _, _, dark = page.partition("@media (prefers-color-scheme: dark)")
    assert used <= set(re.findall(r"(--\w+):#", dark))


def test_blank_cells_are_dark():
    light = cell_light(np.array([1.0, 0.0]), np.array([[0.2, 0.0], [0.9, 0.0], [1.0, 0.0]]), n_valid=2)
    assert light == [0.0, 1.0, 0.0]


def test_moments_and_costs_are_measured(searcher, queries):
    result = evaluate(searcher, queries, Attention())
    assert set(result.moments) == {"super-image", "cell"}
    for row in result.moments.values():
        assert all(low <= value <= high for value, low, high in row.values())
        assert row["R@1 IoU 0.3"][0] >= row["R@1 IoU 0.7"][0]
        assert row["R@5 IoU 0.3"][0] >= row["R@1 IoU 0.3"][0]
    # 412 / 40 super images a video or so, each a forward pass of a ViT of 2.9 million parameters
    assert 1.0 < result.cost.encoding_per_video < 50.0
    assert 0.0 < result.cost.scoring_per_query < 0.1
    assert "Finding the moment" in render_report(result, searcher, title="t")


def test_counting_leaves_what_is_evaluated_as_it_is(tmp_path):
    index = make_index(tmp_path / "i", [4] * 12, grid=1, cells=False, dim=192)
    searcher = searcher_of(index)
    whole = ExactRanker(StoredVectors(index.snapshot()))
    method = CoarseToFine(recall_k=12)
    before = cost(searcher, method)
    assert [cost(searcher, method) for _ in range(3)] == [before] * 3
    scores = whole.pooled(unit(np.ones((1, 192))), [Attention()])[0]
    np.testing.assert_array_equal(searcher.score_vectors([unit(np.ones((1, 192)))], Attention()), scores)


def test_sparse_frames_cost_what_super_images_would(tmp_path):
    index = make_index(tmp_path / "i", [20, 13], grid=1, cells=False, dim=192)
    searcher = searcher_of(index)
    whole, sparse = cost(searcher, Attention()), cost(searcher, Sparse(2))
    assert sparse.encoding_per_video / whole.encoding_per_video == pytest.approx((5 + 4) / (20 + 13))


def test_a_hybrid_is_evaluated_beside_its_models(searcher, queries, tmp_path):
    small = make_like(searcher, tmp_path / "small")
    hybrid = together(searcher.sides[0], small.sides[0])
    results = {
        "large": evaluate(searcher, queries, Attention()),
        "fusion": evaluate(hybrid, queries, Fusion(0.7)),
        "cascade": evaluate(hybrid, queries, Cascade(2)),
    }
    fusion, cascade, large = (results[name].cost for name in ("fusion", "cascade", "large"))
    assert fusion.encoding_per_video == pytest.approx(cascade.encoding_per_video)
    assert fusion.encoding_per_video > large.encoding_per_video
    assert fusion.scoring_per_query > cascade.scoring_per_query
    page = render_report(results["fusion"], hybrid, title="t", compared=results)
    assert "Performance against cost" in page
    assert rankings_table(results["cascade"], hybrid).num_rows == 4 * len(queries)


def test_queries_about_videos_that_a_hybrid_leaves_out_are_counted_as_such(searcher, queries, tmp_path):
    small = make_like(searcher, tmp_path / "small")
    gone = queries[0].video_id
    with writing(small.side.index) as writer:
        writer.remove([gone])
    hybrid = together(searcher.sides[0], searcher_of(small.side.index).sides[0])
    asked = [*queries, Query("elsewhere", "a cat", "elsewhere")]
    about = sum(query.video_id == gone for query in queries)
    assert hybrid.left_out == (gone,)
    for missing in ("skip", "miss"):
        found = evaluate(hybrid, asked, Fusion(0.7), missing=missing)
        assert (found.n_videos, found.left_out) == (3, 1)
        assert found.skipped == {"not_in_index": 1, "failed_video": 0, "left_out": about}
        assert len(found.rank) == len(queries) - about + (about + 1 if missing == "miss" else 0)
    page = render_report(found, hybrid, title="t")
    assert f"<b>{about}</b> about the 1 videos that only one" in page
    assert evaluate_video_to_text(hybrid, asked, Fusion(0.7)).to_dict()["left_out"] == 1


def make_like(searcher, uri):
    """An index of the same videos with other, worse vectors."""
    spec = searcher.sides[0].index.spec
    index = Index.open_or_new(str(uri), spec, "/elsewhere")
    rows = searcher.sides[0].snapshot.super_images()
    vectors = matrix(rows["embedding"], spec.embedding_dim).astype(np.float32)
    vectors += 0.1 * np.random.default_rng(0).standard_normal(vectors.shape)
    at = rows.schema.get_field_index("embedding")
    noisy = rows.set_column(at, rows.schema.field(at).name, embedding_column(vectors))
    with writing(index) as writer:
        writer.commit_super_images(index.write_super_images(noisy))
        writer.upsert_videos(searcher.sides[0].snapshot.videos().to_pylist())
    return searcher_of(index)


def test_settings_are_chosen_on_validation_queries(searcher, queries, tmp_path):
    hybrid = together(searcher.sides[0], make_like(searcher, tmp_path / "small").sides[0])
    some = queries[:12]
    best = chosen(searcher, some, Attention())
    assert sum_r(searcher, some, best) == max(sum_r(searcher, some, Attention(t)) for t in TEMPERATURES)
    assert chosen(searcher, some, Attention(0.9), keep={"temperature"}) == Attention(0.9)
    assert chosen(searcher, some, Max()) == Max()
    gate = chosen(searcher, some, TextGated())
    assert sum_r(searcher, some, gate) == max(sum_r(searcher, some, TextGated(t)) for t in TEMPERATURES)
    fusion = chosen(hybrid, some, Fusion())
    assert fusion.large == best
    assert sum_r(hybrid, some, fusion) == max(sum_r(hybrid, some, replace(fusion, weight=w)) for w in WEIGHTS)
    assert chosen(hybrid, some, Fusion(0.3), keep={"weight"}).weight == 0.3
    assert chosen(hybrid, some, Cascade()).top_k == 4  # no depth of the list is below the number of videos
    with pytest.raises(QueryError, match="recall_k"):
        check_choices(CoarseToFine())


def test_flops_of_vit_b_32_by_hand(tmp_path):
    """PyTorch's counter on the real modules against the formula; one multiply-add is 2."""
    path = tmp_path / "b32.pt"
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), path)
    vlm = Vlm(resolve("ViT-B-32", str(path)), device="cpu")
    tokens, width, layers = 50, 768, 12
    each_layer = 2 * tokens * width * (3 * width + width + 8 * width) + 2 * 2 * tokens * tokens * width
    patches = 2 * 49 * (3 * 32 * 32) * width
    projection = 2 * width * 512
    by_hand = (layers * each_layer + patches + projection) / 1e9
    assert by_hand == pytest.approx(8.82, abs=0.01)
    assert image_gflops(vlm) == pytest.approx(by_hand, rel=1e-3)
    assert architecture_gflops(vlm.source, 224) == pytest.approx(by_hand, rel=1e-3)


def test_a_model_is_counted_at_the_size_it_is_used_at():
    source = resolve("qasir-tiny")
    for side in (96, 192):
        vlm = Vlm(source, image_size=side, device="cpu")
        assert architecture_gflops(source, side) == pytest.approx(image_gflops(vlm))


def test_videos_ask_for_their_texts(searcher, queries):
    """Against loops: the rank of the best placed own text among all, ties against us."""
    found = evaluate_video_to_text(searcher, queries, Attention())
    values = searcher.score([query.text for query in queries], Attention())
    for v, video_id in enumerate(found.video_ids):
        column = values[:, searcher.videos().video_ids.index(video_id)]
        own = np.array([query.video_id == video_id for query in queries])
        assert found.rank[v] == 1 + (column[~own] >= column[own].max()).sum()
    assert found.metrics["MeanR"] == found.rank.mean()
    table = found.rankings()
    assert table.column_names == ["video_id", "rank", "query_id", "score"]
    first = table.filter(np.array(table["video_id"]) == found.video_ids[0]).to_pylist()
    assert [row["rank"] for row in first] == list(range(1, min(100, len(queries)) + 1))
