import re

import numpy as np
import pytest

from qasir.errors import QueryError
from qasir.evaluation.evaluate import evaluate, evaluate_video_to_text
from qasir.evaluation.query import Query
from qasir.evaluation.video_list import Listed, about, read_video_ids
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.opening import open_index, open_searcher
from tests.indexes import give_texts, make_index, unit

DIM = 192  # of the model whose cost is counted


@pytest.fixture(scope="module")
def uris(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listed")
    return {
        "all": make_index(folder / "all", [2, 3, 4, 1, 2, 3], dim=DIM).uri,
        "half": make_index(folder / "half", [2, 3, 4], dim=DIM).uri,
    }


@pytest.fixture(scope="module")
def queries():
    return [Query(str(i), str(i), f"v{i:03}", ((0.0, 4.0),), 12.0) for i in range(6)]


def with_texts(uri):
    searcher = open_index(uri)
    give_texts(searcher, unit(np.random.default_rng(1).standard_normal((6, DIM))))
    return searcher


@pytest.mark.parametrize("method", [Attention(), CoarseToFine(recall_k=2)])
@pytest.mark.parametrize("missing", ["skip", "miss"])
def test_scores_over_a_list_are_those_of_an_index_of_these_videos_only(uris, queries, method, missing):
    """Of the same vectors: the seed makes the first three videos of both alike. One that is listed is in neither."""
    ids = ["v002", "v000", "v001", "nowhere"]
    asked = [*queries, Query("x", "0", "nowhere")]
    listed = Listed.of(with_texts(uris["all"]), ids, n_others=3)
    assert (listed.missing, listed.to_dict()["listed"]) == (["nowhere"], 4)
    some = evaluate(listed.searcher, about(asked, ids), method, missing=missing).to_dict()
    half = evaluate(with_texts(uris["half"]), [*queries[:3], asked[-1]], method, missing=missing).to_dict()
    for key in ("n_queries", "n_videos", "metrics", "ci95", "by_mv", "moments", "corpus_moments", "skipped"):
        assert some[key] == half[key], key
    assert some["n_queries"] == (4 if missing == "miss" else 3)


def test_texts_of_other_videos_have_no_part_the_other_way_round(uris, queries):
    ids = ["v000", "v001", "v002"]
    found = evaluate_video_to_text(Listed.of(with_texts(uris["all"]), ids, n_others=3).searcher, about(queries, ids))
    half = evaluate_video_to_text(with_texts(uris["half"]), queries)
    assert found.video_ids == ["v000", "v001", "v002"]
    assert len(found.queries) == 3
    assert found.metrics == half.metrics


def test_searching_is_over_the_list_too_and_so_is_each_side_of_a_hybrid(uris):
    searcher = with_texts(uris["all"]).of_some({"v001", "v004", "v009"})
    assert {hit.video_id for hit in searcher.search("0", 6)} == {"v001", "v004"}
    assert {hit.video_id for hit in searcher.search_moments("0", 20)} == {"v001", "v004"}
    with pytest.raises(QueryError, match="a search of some videos compares every video"):
        searcher.search("0", 6, exact=False)
    assert searcher.of_some({"v004", "v000"}).videos().video_ids == ["v004"]
    both = open_searcher([uris["all"], uris["all"]]).of_some({"v001", "v004"})
    assert both.videos().video_ids == both.alone(1).videos().video_ids == ["v001", "v004"]


def test_a_list_is_read_as_it_is(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("\ufeffv_1 \r\n\nan id with spaces\nv_1\n")
    assert read_video_ids(path) == ["v_1", "an id with spaces"]
    assert read_video_ids(path, strip_prefix="v_") == ["1", "an id with spaces"]
    path.write_text("\n")
    with pytest.raises(QueryError, match="no video ids"):
        read_video_ids(path)
    with pytest.raises(QueryError, match="no such list"):
        read_video_ids(tmp_path / "no")


def test_a_list_of_nothing_that_counts_is_an_error(uris, queries):
    searcher = with_texts(uris["all"])
    with pytest.raises(
        QueryError, match=r"none of the 6 queries is about one of the 1 listed videos: they .*; it has nowhere$"
    ):
        about(queries, ["nowhere"])
    with pytest.raises(QueryError, match=re.escape(f"none of the 1 listed videos is in the index at {uris['all']}")):
        Listed.of(searcher, ["nowhere"], n_others=0)
