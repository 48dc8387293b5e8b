import pytest

from qasir.errors import QueryError
from qasir.evaluation.joining import with_moments
from qasir.evaluation.query import Query
from qasir.evaluation.query_files import read_queries

RELEASE = [
    Query("1", "A  man sings.", "v1", ((1.0, 2.0),), 20.0),
    Query("2", "He stops", "v1", ((3.0, 4.0),), 20.0),
    Query("3", "He stops", "v1", ((8.0, 9.0),), 20.0),
    Query("4", "A man sings.", "v2", ((5.0, 6.0),), 10.0),
]


def test_moments_are_joined_by_video_and_text(tmp_path, caplog):
    path = tmp_path / "test.caption.txt"
    path.write_text("v1#enc#0 A man sings.\nv1#enc#1 He stops \nv2#enc#0 A man sings.\nv2#enc#1 He leaves\n")
    found = {query.query_id: query for query in with_moments(read_queries(path), RELEASE, "release.json")}
    assert found["v1#enc#0"].moments == ((1.0, 2.0),)
    assert found["v1#enc#1"].moments == ((3.0, 4.0), (8.0, 9.0))
    assert (found["v2#enc#0"].moments, found["v2#enc#0"].duration_s) == (((5.0, 6.0),), 10.0)
    assert (found["v2#enc#1"].moments, found["v2#enc#1"].duration_s) == ((), None)
    assert "release.json has no moments for 1 of 4 queries, v2#enc#1 first" in caplog.text


def test_a_release_of_something_else_is_an_error():
    with pytest.raises(QueryError, match="none of the 1 queries.*'A man sings.' of video 'x', where it has 'A  man"):
        with_moments([Query("x#enc#0", "A man sings.", "x")], RELEASE, "release.json")
