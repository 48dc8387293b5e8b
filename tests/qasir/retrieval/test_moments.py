import numpy as np
import pytest

from qasir.errors import QueryError
from qasir.evaluation.moment_metrics import CORPUS_IOUS, CORPUS_NAMES, best_overlap, corpus_moments, moment_recalls
from qasir.evaluation.query import Query
from qasir.retrieval.moment_ranking import MomentChoice, RankedMoments
from qasir.retrieval.moments import MomentRule, finest, overlap, span
from qasir.retrieval.opening import searcher_of
from qasir.retrieval.searcher import best_first
from tests.indexes import DIM, give_texts, make_index, unit


@pytest.mark.parametrize(
    ("similarity", "share", "expected"),
    [
        ([0.1, 0.2, 0.9, 0.8, 0.1], 0.5, (2, 3)),
        ([0.9, 0.1, 0.8], 0.5, (0, 0)),  # contiguous: what lies behind a gap is another moment
        ([0.1, 0.1, 0.7, 0.9], 0.5, (2, 3)),
        ([0.5], 0.5, (0, 0)),
        ([0.4, 0.4, 0.4], 0.5, (0, 2)),  # nothing stands out: the whole video
        ([0.1, 0.5, 0.9, 0.5], 1.0, (2, 2)),
        ([0.1, 0.6, 0.9, 0.6], 0.0, (1, 3)),
    ],
)
def test_the_span_is_contiguous_around_the_peak(similarity, share, expected):
    assert span(np.array(similarity, np.float32), share) == expected


def test_a_cell_points_into_its_super_image(tmp_path):
    index = make_index(tmp_path / "i", [3, 5])
    searcher = searcher_of(index, rule=MomentRule(share=1.0))
    assert finest(index.spec) == "cell"
    cells = searcher.sides[0].vectors.load("cell", ["v001"])
    (text,) = give_texts(searcher, cells.features.vectors[6:7])  # the third cell of the second super image
    ((start, end),) = searcher.moments([text], [(0, "v001")]).tolist()
    assert (start, end) == (6.0, 7.0)
    ((start, end),) = searcher.moments([text], [(0, "v001")], "super-image").tolist()
    assert (start, end) == (4.0, 8.0)
    loaded = searcher.sides[0].vectors.load()  # noqa: F841  (spans of loaded super images are the same)
    assert searcher.moments([text], [(0, "v001")], "super-image").tolist() == [[4.0, 8.0]]


def test_overlap():
    assert overlap((0, 10), (5, 15)) == pytest.approx(1 / 3)
    assert overlap((0, 1), (2, 3)) == 0.0
    assert overlap((2, 4), (2, 4)) == 1.0
    assert overlap((1, 1), (1, 1)) == 0.0


def test_moment_recalls_count_the_right_video_with_enough_overlap(tmp_path):
    index = make_index(tmp_path / "i", [3, 5, 4])
    searcher = searcher_of(index, rule=MomentRule(share=1.0))
    cells = searcher.sides[0].vectors.load("cell", ["v001"])
    names = give_texts(searcher, unit(cells.features.vectors[[6, 6, 6, 6]]))
    queries = [
        Query("a", names[0], "v001", ((6.0, 7.0),)),  # the cell exactly
        Query("b", names[1], "v001", ((4.0, 8.0),)),  # the super image exactly, a quarter by the cell
        Query("c", names[2], "v002", ((6.0, 7.0),)),  # another video, found within 5 with a moment elsewhere
        Query("d", names[3], "v001"),  # no moment: not counted
    ]
    order = best_first(searcher.score(names), 5)
    found = moment_recalls(searcher, queries, order)
    assert found["cell"]["R@1 IoU 0.5"][0] == pytest.approx(100 / 3)
    assert found["super-image"]["R@1 IoU 0.7"][0] == pytest.approx(100 / 3)
    assert found["super-image"]["R@1 IoU 0.3"][1] <= found["super-image"]["R@1 IoU 0.3"][0]
    assert moment_recalls(searcher, queries[3:], order[3:]) == {}


def test_moments_over_the_corpus_by_hand(tmp_path):
    """Two videos of four frames along two axes: a query that is mostly the first axis ranks [0 s, 2 s] of the first
    video (0.8), [3 s, 4 s] of the second (0.8, a tie that goes by video), and [3 s, 4 s] of the first (0.8)."""
    searcher = searcher_of(make_index(tmp_path / "i", [4, 4], grid=1, cells=False), rule=MomentRule(share=1.0))
    table = searcher.side.vectors.load()
    axes = np.eye(DIM, dtype=np.float32)
    frames = {"v000": [0, 0, 1, 0], "v001": [1, 1, 1, 0]}
    for video_id, which in frames.items():
        table.features.vectors[table.rows(video_id)] = axes[which]
    names = give_texts(searcher, np.tile(0.8 * axes[0] + 0.6 * axes[1], (6, 1)))
    queries = [
        Query("a", names[0], "v000", ((0.0, 2.0),)),  # rank 1 at any IoU
        Query("b", names[1], "v000", ((0.0, 1.2),)),  # IoU 0.6 at rank 1
        Query("c", names[2], "v000", ((3.0, 4.0), (9.0, 12.0))),  # rank 2: the second window of the first video
        Query("d", names[3], "v001", ((3.0, 4.0),)),  # rank 3
        Query("e", names[4], "v001", ((0.0, 3.0),)),  # not found: below the mean there is no peak
        Query("f", names[5], "v001"),  # no moment
    ]
    (ranked,) = searcher.rank_moments(names[:1], MomentChoice(100))
    assert list(zip(ranked.video.tolist(), ranked.start_s.tolist(), ranked.end_s.tolist(), strict=True)) == [
        (0, 0.0, 2.0), (0, 3.0, 4.0), (1, 3.0, 4.0)
    ]  # fmt: skip
    found = corpus_moments(searcher, queries)
    assert (found.n_queries, found.without_moment, found.nms) == (5, 1, None)
    assert {name: row[0] for name, row in found.recalls["super-image"].items()} == {
        "R@1 IoU 0.5": 40.0, "R@5 IoU 0.5": 80.0, "R@10 IoU 0.5": 80.0, "R@100 IoU 0.5": 80.0,
        "R@1 IoU 0.7": 20.0, "R@5 IoU 0.7": 60.0, "R@10 IoU 0.7": 60.0, "R@100 IoU 0.7": 60.0,
    }  # fmt: skip
    lost = [Query("g", "gone", "x", ((0.0, 1.0),)), Query("h", "gone too", "x")]
    found = corpus_moments(searcher, queries, lost)
    assert (found.n_queries, found.without_moment) == (6, 2)
    assert found.recalls["super-image"]["R@100 IoU 0.5"][0] == pytest.approx(400 / 6)
    assert corpus_moments(searcher, queries[5:]).recalls == {}


@pytest.mark.parametrize("nms", [None, 0.0, 0.3])
def test_recalls_over_the_corpus_are_those_of_a_loop(tmp_path, nms):
    searcher = searcher_of(make_index(tmp_path / "i", [9, 14, 6, 20]))
    generator = np.random.default_rng(7)
    ids = searcher.videos().video_ids
    queries = []
    vectors = []
    for i in range(60):
        v = int(generator.integers(0, 4))
        cells = searcher.side.vectors.load("cell", [ids[v]])
        at, length = int(generator.integers(0, len(cells.start_s) - 3)), int(generator.integers(1, 4))
        vectors.append(cells.features.vectors[at : at + length].mean(axis=0) + 0.1 * generator.standard_normal(DIM))
        moments = ((float(cells.start_s[at]), float(cells.end_s[at + length - 1])), (0.0, 1.0))
        queries.append(Query(str(i), str(i), ids[v], moments[: 1 + i % 2] if i % 5 else ()))
    texts = give_texts(searcher, unit(np.stack(vectors)))
    found = corpus_moments(searcher, queries, nms=nms)
    asked = [query for query in queries if query.moments]
    assert found.n_queries == len(asked) == 48
    assert found.without_moment == 12
    for granularity in ("cell", "super-image"):
        hits = dict.fromkeys(CORPUS_NAMES, 0)
        for ranked, query in zip(
            searcher.rank_moments(texts, MomentChoice(100, nms=nms), granularity), queries, strict=True
        ):
            spans = list(zip(ranked.video.tolist(), ranked.start_s.tolist(), ranked.end_s.tolist(), strict=True))
            for iou in CORPUS_IOUS:
                for k in (1, 5, 10, 100):
                    hits[f"R@{k} IoU {iou:g}"] += any(
                        ids[v] == query.video_id and overlap((start, end), true) >= iou
                        for v, start, end in spans[:k]
                        for true in query.moments
                    )
        assert {name: row[0] for name, row in found.recalls[granularity].items()} == pytest.approx(
            {name: 100 * n / len(asked) for name, n in hits.items()}
        )
    assert found.recalls["cell"]["R@100 IoU 0.5"][0] > found.recalls["cell"]["R@1 IoU 0.7"][0] > 0


def test_the_overlap_that_counts_is_the_best_one_of_the_right_video():
    ranked = RankedMoments(np.array([0, 1, 1]), np.zeros(3), np.array([0.0, 0.0, 6.0]), np.array([4.0, 4.0, 8.0]))
    assert best_overlap(ranked, 1, [(0.0, 2.0), (7.0, 8.0)]).tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("nms", [-0.1, 1.5, float("nan")])
def test_an_overlap_limit_that_is_none(tmp_path, nms):
    searcher = searcher_of(make_index(tmp_path / "i", [3]))
    with pytest.raises(QueryError, match="nms"):
        corpus_moments(searcher, [Query("a", "a", "v000", ((0.0, 1.0),))], nms=nms)


def test_a_bad_rule():
    with pytest.raises(QueryError, match="share"):
        MomentRule(share=1.5)
    assert DIM == 16
