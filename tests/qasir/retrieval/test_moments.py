import numpy as np
import pytest

from qasir.errors import QueryError
from qasir.evaluation.moment_metrics import moment_recalls
from qasir.evaluation.query import Query
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


def test_a_bad_rule():
    with pytest.raises(QueryError, match="share"):
        MomentRule(share=1.5)
    assert DIM == 16
