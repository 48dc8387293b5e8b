import numpy as np
import pytest
from PIL import Image

from qasir import Like, Picture, open_hybrid, open_index
from qasir.errors import QueryError
from qasir.retrieval import vector_index
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.checkpoint import Checkpoint
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.modules import FineTuned
from qasir.retrieval.opening import searcher_of
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.scoring import score
from tests.indexes import DIM, give_texts, make_index, unit, writing

LENGTHS = [3, 5, 4, 8, 2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("made") / "i", LENGTHS, failed=["x/bad"])


@pytest.fixture
def searcher(made):
    return open_index(made.uri)


def random_queries(n):
    return unit(np.random.default_rng(5).standard_normal((n, DIM)))


def test_like_is_the_cell_there(searcher):
    cells = searcher.side.vectors.load("cell", ["v003"])
    hits = searcher.search(Like("v003", 9.5), method=Max())
    vector = cells.features.vectors[9]
    assert (cells.start_s[9], cells.end_s[9]) == (9.0, 10.0)
    images = searcher.side.vectors.load().features
    assert hits[0].score == pytest.approx(score(vector[None], images, Max()).max(), abs=1e-6)
    assert hits.query == "v003@9.5"
    moment = searcher.search_moments(Like("v003", 9.5))[0]
    assert moment.video_id == "v003"
    assert moment.start_s <= 9.5 <= moment.end_s


def test_like_is_the_super_image_where_there_are_no_cells(tmp_path):
    searcher = open_index(make_index(tmp_path / "i", [3, 5], grid=2, cells=False).uri)
    hits = searcher.search(Like("v001", 4.0), method=Max())  # where the second one begins
    assert hits[0].video_id == "v001"
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert searcher.search(Like("v001", 19.0), method=Max())[0].score == pytest.approx(1.0, abs=1e-5)  # the very end


@pytest.mark.parametrize(
    ("like", "says"),
    [
        (Like("nope", 1.0), "no encoded video 'nope'"),
        (Like("x/bad", 1.0), "no encoded video"),
        (Like("v003", -0.1), "from 0 to 31"),
        (Like("v003", 31.5), "from 0 to 31"),
        (Like("v003", float("nan")), "from 0 to 31"),
        (Like("v003", float("inf")), "from 0 to 31"),
    ],
)
def test_a_place_that_is_none(searcher, like, says):
    for search in (searcher.search, searcher.search_moments):
        with pytest.raises(QueryError, match=says):
            search(like)


def test_places_are_split_at_the_last_at():
    assert Like.parse("a@b/c.d@12.5") == Like("a@b/c.d", 12.5)
    for bad in ("", "a", "@3", "a@", "a@b", "a@1:30"):
        with pytest.raises(QueryError, match="VIDEO@12.5"):
            Like.parse(bad)


def test_several_parts_are_fused_by_standardised_scores(searcher):
    texts = give_texts(searcher, random_queries(2))
    parts = (texts[0], Like("v001", 2.0), texts[1])
    alone = [{hit.video_id: hit.score for hit in searcher.search(part, 100)} for part in parts]
    ids = searcher.videos().video_ids
    values = np.array([[scores[video_id] for video_id in ids] for scores in alone], np.float64)
    expected = ((values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)).mean(0)
    found = searcher.search(parts, 100)
    assert {hit.video_id: hit.score for hit in found} == pytest.approx(dict(zip(ids, expected, strict=True)), abs=1e-4)
    assert found.query == f"{texts[0]}, v001@2, {texts[1]}"
    kept = searcher.search(parts, 100, where="duration_s > 15")
    assert [hit.video_id for hit in kept] == [
        h.video_id for h in found if h.video_id in searcher.select("duration_s > 15")
    ]
    # The vector that points to moments is that of the standardised similarities.
    cells = searcher.side.vectors.load("cell")
    vectors = [cells.features.vectors[cells.rows("v001")][2], *searcher.encode(texts)]
    q = sum(v / s for v, s in zip([vectors[1], vectors[0], vectors[2]], values.std(1), strict=True))
    moments = searcher.search_moments(parts)
    expected = cells.features.vectors @ (q / np.linalg.norm(q))
    peak = expected.argmax()
    best = max((hit for hit in moments), key=lambda hit: hit.score)
    assert best.score <= expected[peak] + 1e-5
    assert any(hit.start_s <= cells.start_s[peak] < hit.end_s for hit in moments)
    assert {hit.video_id: hit.video_score for hit in moments}[best.video_id] == pytest.approx(
        {hit.video_id: hit.score for hit in found}[best.video_id]
    )


def test_neither_part_wins_by_its_scale(tmp_path):
    """A part whose scores hardly differ counts as much as one whose scores differ widely."""
    searcher = open_index(make_index(tmp_path / "i", [1] * 30, grid=1, cells=False).uri)
    axis = np.zeros(DIM, np.float32)
    axis[0] = 1.0
    wide = random_queries(1)[0]
    narrow = unit(axis + 0.02 * random_queries(2)[1])
    texts = give_texts(searcher, np.stack([wide, narrow]))
    order = {text: [hit.video_id for hit in searcher.search(text, 30)] for text in texts}
    fused = [hit.video_id for hit in searcher.search(texts, 30)]
    agreement = [np.corrcoef([order[t].index(i) for i in fused], np.arange(30))[0, 1] for t in texts]
    assert agreement[0] == pytest.approx(agreement[1], abs=0.2)


def test_asked_together_texts_and_places_are_answered_as_alone(searcher):
    texts = give_texts(searcher, random_queries(2))
    asked = [texts[0], Like("v001", 2.0), (texts[1], Like("v002", 0.0)), texts[1]]
    for one, hits in zip(asked, searcher.search_many(asked, 3), strict=True):
        alone = searcher.search(one, 3)
        assert [hit.video_id for hit in hits] == [hit.video_id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-5)
        assert hits.query == alone.query
    with pytest.raises(QueryError, match="nothing to search for"):
        searcher.search(())


def test_the_vector_index_nominates_for_a_place_and_not_for_several_parts(tmp_path):
    index = make_index(tmp_path / "i", [4] * 200, grid=1, cells=False)
    with writing(index) as writer:
        vector_index.build(writer)
    searcher = open_index(index.uri)
    hits = searcher.search(Like("v123", 2.0), 3, Max())
    assert not hits.exact
    assert hits[0].video_id == "v123"
    (text,) = give_texts(searcher, random_queries(1))
    assert searcher.search((text, Like("v123", 2.0))).exact
    with pytest.raises(QueryError, match="several parts of a query together compare every video"):
        searcher.search((text, Like("v123", 2.0)), exact=False)


def test_each_of_two_indexes_takes_the_place_from_its_own_vectors(tmp_path):
    large = make_index(tmp_path / "large", [2, 3, 4], grid=2)
    small = make_index(tmp_path / "small", [8, 12, 16], grid=1, cells=False, seed=1, dim=8)
    hits = open_hybrid(large.uri, small.uri).search(Like("v002", 5.0))
    assert hits[0].video_id == "v002"


def tuned(index, **parts):
    architecture = Architecture(**parts)
    model = FineTuned(DIM, architecture).eval()
    if model.image_adapter is not None:
        model.image_adapter.up.weight.data.normal_(std=0.5)
    return searcher_of(index, finetuned=Checkpoint(index.uri, model, Recipe(), index.spec, "sha256:0", {}))


def test_through_a_checkpoint_a_place_goes_through_the_image_side(made):
    searcher = tuned(made, temporal=False)
    query = searcher.side.vectors.load("cell", ["v003"]).features.vectors[9]
    plain = open_index(made.uri).side.vectors.load("cell", ["v003"]).features.vectors[9]
    assert abs(query @ plain) < 0.99
    expected = score(query[None], searcher.side.vectors.load().features, searcher.default)[0]
    found = {hit.video_id: hit.score for hit in searcher.search(Like("v003", 9.5), 10)}
    assert found == pytest.approx(dict(zip(searcher.videos().video_ids, expected.tolist(), strict=True)), abs=1e-5)


def test_a_temporal_encoder_takes_no_single_picture(made, tmp_path):
    searcher = tuned(made, temporal=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    for part in (Like("v003", 9.5), Picture(tmp_path / "p.png")):
        with pytest.raises(QueryError, match="temporal encoder"):
            searcher.search(part)


def test_a_picture_is_a_frame_that_fills_a_super_image(demo_index, dense_index, tmp_path):
    """A whole frame is what a super image of grid 1 holds."""
    searcher = open_index(dense_index.uri)
    rows = open_index(demo_index.uri).side.snapshot.super_images(["thumbnail"]).to_pylist()
    (tmp_path / "p.jpg").write_bytes(rows[0]["thumbnail"])
    by_path, by_bytes = searcher.search(Picture(tmp_path / "p.jpg")), searcher.search(Picture(rows[0]["thumbnail"]))
    assert list(by_path) == list(by_bytes)
    assert by_path.query == f"picture {tmp_path / 'p.jpg'}"
    assert by_bytes.query == "a picture"
    tiled = open_index(demo_index.uri).search(Picture(rows[0]["thumbnail"]), method=Max())
    assert tiled[0].video_id == rows[0]["video_id"]
    assert tiled[0].score > 0.9
    assert searcher.search_moments(("a penguin", Picture(tmp_path / "p.jpg")))[0].uri
