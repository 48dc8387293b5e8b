import json
from pathlib import Path

import pytest

from qasir.errors import QueryError
from qasir.evaluation.query import paragraphs
from qasir.evaluation.query_files import read_queries

DATA = Path(__file__).parents[2] / "data"


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "form", "queries", "videos"),
    [("tvr.jsonl", "tvr", 13, 7), ("activitynet.json", "activitynet", 8, 4), ("charades.txt", "charades", 8, 4)],
)
@pytest.mark.parametrize("detect", [True, False])
def test_files_as_benchmarks_release_them(name, form, queries, videos, detect):
    found = read_queries(DATA / name, "auto" if detect else form)
    assert len({query.query_id for query in found}) == len(found) == queries
    assert len({query.video_id for query in found}) == videos
    assert all(len(query.moments) == 1 for query in found)
    assert all(query.text == query.text.strip() for query in found)


def test_what_is_odd_in_released_files_is_read():
    tvr = {query.query_id: query for query in read_queries(DATA / "tvr.jsonl")}
    assert tvr["96025"].text == "Lena rolls her chair towards a patient’s room."
    assert tvr["89064"].moments == ((1.0, 64.02),)
    captions = {query.query_id: query for query in read_queries(DATA / "activitynet.json")}
    late = captions["v_qI1ZayfiGIH#0"]
    assert late.text == "They kick the ball around until somebody breaks the piñata."
    assert late.moments[0][1] > late.duration_s
    assert captions["v_BtrGC6PUQJk#0"].text.startswith("Two others")
    assert captions["v_BtrGC6PUQJk#1"].moment_ratio() == 1.0
    washing = next(query for query in read_queries(DATA / "charades.txt") if "#" in query.text)
    assert (washing.video_id, washing.text) == ("AMT7S", "person #1 was washing a mirror on the wall.")


def test_jsonl(tmp_path):
    rows = [
        {"query_id": 1, "query": " a cat ", "video_id": "v", "start_s": 1, "end_s": 2.5, "duration_s": 10},
        {"query_id": "b", "query": "dog", "video_id": "w", "start_s": None, "end_s": None, "duration_s": None},
    ]
    first, second = read_queries(write(tmp_path / "q.jsonl", *rows))
    assert (first.query_id, first.text, first.moments, first.duration_s) == ("1", "a cat", ((1.0, 2.5),), 10.0)
    assert first.moment_ratio() == pytest.approx(0.15)
    assert second.moments == ()
    assert second.moment_ratio(20.0) != second.moment_ratio(20.0)  # NaN


def test_charades_and_captions(tmp_path):
    (query,) = read_queries(write(tmp_path / "c.txt", "3MSZA 24.3 30.4##person turn a light on."))
    assert (query.video_id, query.text, query.moments) == ("3MSZA", "person turn a light on.", ((24.3, 30.4),))
    assert query.moment_ratio(61.0) == pytest.approx(0.1)
    (query,) = read_queries(write(tmp_path / "p.txt", "v_1#enc#0 a man is # here"))
    assert (query.query_id, query.video_id, query.text, query.moments) == ("v_1#enc#0", "v_1", "a man is # here", ())


def test_moment_detr_windows_are_one_query_and_overlaps_count_once(tmp_path):
    row = {"qid": 7, "query": "x", "vid": "v", "duration": 100, "relevant_windows": [[0, 10], [5, 20], [50, 60]]}
    (query,) = read_queries(write(tmp_path / "q.jsonl", row))
    assert len(query.moments) == 3
    assert query.moment_ratio() == pytest.approx(0.3)


GOOD = {"query_id": "a", "query": "x", "video_id": "v", "start_s": 0, "end_s": 1, "duration_s": 2}


@pytest.mark.parametrize(
    ("form", "bad", "says"),
    [
        ("jsonl", "{not json", ":2: not JSON"),
        ("jsonl", "[1]", ":2: not a JSON object"),
        ("jsonl", {**GOOD, "query_id": "b", "query": " "}, ":2: `query` is empty"),
        ("jsonl", {**GOOD, "query_id": "b", "start_s": "0"}, ":2: `start_s` is '0'"),
        ("jsonl", {**GOOD, "query_id": "b", "start_s": 3}, ":2: the moment ends"),
        ("jsonl", {**GOOD, "query_id": "b", "end_s": None}, ":2: start_s and end_s"),
        ("jsonl", {**GOOD, "query_id": "b", "duration_s": float("nan")}, ":2: `duration_s`"),
        ("jsonl", {k: v for k, v in GOOD.items() if k != "video_id"}, ":2: no `video_id`"),
        ("jsonl", GOOD, "two queries have the id 'a'"),
        ("tvr", {"desc_id": 1, "desc": "x", "vid_name": "v", "ts": [1], "duration": 3}, ":1: \\[1\\] is not"),
        ("charades", "AB 1 two##text", ":1: 'two' is not a number"),
        ("charades", "AB 1 2 text", ":1: not `VID start end##text`"),
        ("captions", "v enc 1 text", ":1: not `VID#enc#n text`"),
        ("activitynet", {"v": {"duration": 3, "timestamps": [[0, 1]], "sentences": []}}, "v: sentences and timestamps"),
        ("moment-detr", {"qid": 1, "query": "x", "vid": "v", "relevant_windows": [[1]]}, ":1: \\[1\\] is not"),
        ("auto", "hello there", "cannot tell its format"),
        ("nonsense", GOOD, "choose one of auto, jsonl"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, form, bad, says):
    lines = [GOOD, bad] if form == "jsonl" else [bad]
    with pytest.raises(QueryError, match=says):
        read_queries(write(tmp_path / "q.txt", *lines), form)


def test_a_file_that_is_not_there_or_empty_or_binary(tmp_path):
    with pytest.raises(QueryError, match="no such query file"):
        read_queries(tmp_path / "nowhere.jsonl")
    with pytest.raises(QueryError, match="no queries"):
        read_queries(write(tmp_path / "empty.jsonl", ""), "jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(QueryError, match="cannot be read as text"):
        read_queries(tmp_path / "b.jsonl")


MSRVTT_CSV = """key,vid_key,video_id,sentence
ret0,msr9770,video9770,a person connects something
ret1,msr9771,video9771,"a boy, singing"
"""
MSRVTT_JSON = json.dumps(
    {"videos": [{"video_id": "video0"}], "sentences": [{"caption": "a cat", "video_id": "video0", "sen_id": 3}]}
)
MSVD = "# a comment\n\n-4wsuPCjDBc_5_15 a squirrel eats a peanut\n-4wsuPCjDBc_5_15 a chipmunk\nabc_1_2 a dog\n"
DIDEMO = json.dumps(
    [
        {"annotation_id": 19, "description": "a dog jumps", "video": "1@N02_2.mov", "times": [[1, 1], [0, 1], [1, 1]]},
        {"annotation_id": 20, "description": "then it barks", "video": "1@N02_2.mov", "times": [[3, 4]]},
    ]
)


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (
            "msrvtt",
            MSRVTT_CSV,
            [("ret0", "a person connects something", "video9770"), ("ret1", "a boy, singing", "video9771")],
        ),
        ("msrvtt", MSRVTT_JSON, [("3", "a cat", "video0")]),
        (
            "msvd",
            MSVD,
            [
                ("-4wsuPCjDBc_5_15#3", "a squirrel eats a peanut", "-4wsuPCjDBc_5_15"),
                ("-4wsuPCjDBc_5_15#4", "a chipmunk", "-4wsuPCjDBc_5_15"),
                ("abc_1_2#5", "a dog", "abc_1_2"),
            ],
        ),
        ("didemo", DIDEMO, [("19", "a dog jumps", "1@N02_2"), ("20", "then it barks", "1@N02_2")]),
    ],
)
def test_trimmed_benchmarks(tmp_path, form, text, expected):
    """Read under their name, and told apart from the others by what they begin with."""
    path = tmp_path / "file"
    path.write_text(text)
    for given in (form, "auto"):
        found = read_queries(path, given)
        assert [(q.query_id, q.text, q.video_id) for q in found] == expected
    assert found[0].moments == (((5.0, 10.0),) if form == "didemo" else ())


def test_sentences_of_a_video_become_a_paragraph(tmp_path):
    path = tmp_path / "file"
    path.write_text(DIDEMO)
    (one,) = paragraphs(read_queries(path))
    assert (one.query_id, one.text, one.moments) == ("1@N02_2", "a dog jumps then it barks", ())


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("msrvtt", "key,vid_key,video_id,sentence\nret0,m,video1,\n", ":2: `sentence` is empty"),
        ("msrvtt", "{}", "no list `sentences`"),
        ("msrvtt", "{", "not JSON"),
        ("msvd", "abc_1_2\n", ":1: `text` is empty"),
        ("didemo", "{}", "not a JSON list"),
        ("didemo", '[{"annotation_id": 1, "description": "x", "video": "v", "times": []}]', "entry 0: `times`"),
        ("didemo", '[{"annotation_id": 1, "description": "x", "times": [[0, 0]]}]', "no `video`"),
    ],
)
def test_trimmed_benchmarks_gone_wrong(tmp_path, form, text, says):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(QueryError) as error:
        read_queries(path, form)
    assert says in str(error.value)
