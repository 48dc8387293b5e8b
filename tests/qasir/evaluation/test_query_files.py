import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from qasir.errors import QueryError
from qasir.evaluation import query_notes
from qasir.evaluation.query import Query, fingerprint, paragraphs
from qasir.evaluation.query_files import read_queries, read_query_file
from qasir.evaluation.query_notes import KINDS, MENDED

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


def test_qvhighlights_has_several_moments_a_query_and_none_in_its_test_split():
    """Clips are named by a video and its seconds, with dots; saliency scores have no part in this."""
    found = read_query_file(DATA / "qvhighlights.jsonl")
    assert found.form == "moment-detr"
    assert [query.video_id for query in found.queries][::2] == [
        "aaB-c_1dE0g_210.0_360.0", "k9_-Xz34T5u_60.0_210.0", "0pQ8rS7tUvW_360.0_510.0",
    ]  # fmt: skip
    assert [len(query.moments) for query in found.queries] == [1, 2, 1, 1, 0]
    assert found.queries[1].moment_ratio() == pytest.approx(30 / 150)
    assert found.to_dict()["mended"] == {"moment_past_end": 1}


def test_what_is_odd_in_released_files_is_read():
    tvr = {query.query_id: query for query in read_queries(DATA / "tvr.jsonl")}
    assert tvr["96025"].text == "Lena rolls her chair towards a patient’s room."
    assert tvr["89064"].moments == ((1.0, 64.02),)
    captions = {query.query_id: query for query in read_queries(DATA / "activitynet.json")}
    late = captions["v_qI1ZayfiGIH#0"]
    assert late.text == "They kick the ball around until somebody breaks the piñata."
    assert late.moments[0][1] == late.duration_s
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
    (query,) = read_query_file(write(tmp_path / "p.txt", "v_1#enc#0 a man is # here"), strip_prefix="v_").queries
    assert (query.query_id, query.video_id) == ("v_1#enc#0", "1")
    (query,) = read_queries(tmp_path / "p.txt")
    assert (query.query_id, query.video_id, query.text, query.moments) == ("v_1#enc#0", "v_1", "a man is # here", ())


def test_moment_detr_windows_are_one_query_and_overlaps_count_once(tmp_path):
    row = {"qid": 7, "query": "x", "vid": "v", "duration": 100, "relevant_windows": [[0, 10], [5, 20], [50, 60]]}
    (query,) = read_queries(write(tmp_path / "q.jsonl", row))
    assert len(query.moments) == 3
    assert query.moment_ratio() == pytest.approx(0.3)


GOOD = {"query_id": "a", "query": "x", "video_id": "v", "start_s": 0, "end_s": 1, "duration_s": 2}


MOMENT = {**GOOD, "query_id": "b"}
TVR = {"desc_id": 1, "desc": "x", "vid_name": "v", "ts": [0, 1], "duration": 3}
WINDOWS = {"qid": 1, "query": "x", "vid": "v", "duration": 10, "relevant_windows": [[0, 2], [5, 4], [8, 12]]}


@pytest.mark.parametrize(
    ("form", "bad", "kinds", "moments"),
    [
        ("jsonl", {**MOMENT, "start_s": 3}, {"moment_reversed": 1}, ()),
        ("jsonl", {**MOMENT, "start_s": 1}, {"moment_of_no_time": 1}, ()),
        ("jsonl", {**MOMENT, "end_s": 3}, {"moment_past_end": 1}, ((0, 2),)),
        ("jsonl", {**MOMENT, "start_s": -1}, {"moment_before_start": 1}, ((0, 1),)),
        ("jsonl", {**MOMENT, "start_s": -1, "end_s": 3}, {"moment_before_start": 1, "moment_past_end": 1}, ((0, 2),)),
        ("jsonl", {**MOMENT, "start_s": 2, "end_s": 3}, {"moment_outside": 1}, ()),
        ("jsonl", {**MOMENT, "start_s": "soon"}, {"moment_unreadable": 1}, ()),
        ("jsonl", {**MOMENT, "end_s": None}, {"moment_unreadable": 1}, ()),
        ("jsonl", {**MOMENT, "duration_s": 0}, {"duration_unusable": 1}, ((0, 1),)),
        ("jsonl", {**MOMENT, "duration_s": float("nan")}, {"duration_unusable": 1}, ((0, 1),)),
        ("tvr", {**TVR, "ts": [1]}, {"moment_unreadable": 1}, ()),
        ("tvr", {**TVR, "ts": [2, 1]}, {"moment_reversed": 1}, ()),
        ("moment-detr", WINDOWS, {"moment_reversed": 1, "moment_past_end": 1}, ((0, 2), (8, 10))),
        ("moment-detr", {**WINDOWS, "relevant_windows": 3}, {"moment_unreadable": 1}, ()),
        ("charades", "AB 1 two##text", {"moment_unreadable": 1}, ()),
        ("charades", "AB 9 8##text", {"moment_reversed": 1}, ()),
        (
            "activitynet",
            {"v": {"duration": 3, "timestamps": [[0, 1]], "sentences": ["x", "y"]}},
            {"moment_unreadable": 1},
            (),
        ),
        (
            "didemo",
            [{"annotation_id": 1, "description": "x", "video": "v", "times": [[2, 1], [2, 1], [0, 0]]}],
            {"moment_of_no_time": 1},
            (),
        ),
        ("didemo", [{"annotation_id": 1, "description": "x", "video": "v", "times": []}], {"moment_unreadable": 1}, ()),
    ],
)
def test_a_query_stays_whatever_its_moment_is(tmp_path, form, bad, kinds, moments):
    found = read_query_file(write(tmp_path / "q.txt", bad), form)
    assert {query.moments for query in found.queries} == {moments}
    counted = found.to_dict()
    assert counted["left_out"] | counted["mended"] == kinds
    assert not math.isfinite(found.queries[0].moment_ratio(5.0)) or moments


@pytest.mark.parametrize(
    ("form", "good", "bad", "kind"),
    [
        ("jsonl", GOOD, "{not json", "bad_line"),
        ("jsonl", GOOD, "[1]", "bad_line"),
        ("jsonl", GOOD, {**MOMENT, "query": " "}, "no_text"),
        ("jsonl", GOOD, {**MOMENT, "query": None}, "no_text"),
        ("jsonl", GOOD, {k: v for k, v in MOMENT.items() if k != "video_id"}, "no_video"),
        ("jsonl", GOOD, {**MOMENT, "video_id": [1]}, "no_video"),
        ("charades", "AB 1 2##text", "AB 1 2 text", "bad_line"),
        ("charades", "AB 1 2##text", "AB 1 2##", "no_text"),
        ("captions", "v#enc#0 a cat", "v enc 1 text", "bad_line"),
        ("captions", "v#enc#0 a cat", "v#enc#1", "no_text"),
        ("msvd", "abc_1_2 a dog", "abc_1_2", "no_text"),
        ("msrvtt", "key,vid_key,video_id,sentence\nret0,m,video1,a dog", "ret1,m,video2,", "no_text"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_line_that_cannot_be_scored_is_left_out_and_counted(tmp_path, caplog, form, good, bad, kind, first):
    lines = [bad, good] if first and form != "msrvtt" else [good, bad]
    for given in (form, "auto"):
        found = read_query_file(write(tmp_path / "q.txt", *lines), given)
        assert (found.form, len(found.queries), found.to_dict()["left_out"]) == (form, 1, {kind: 1})
    assert f"{KINDS[kind]}: 1 (first line" in caplog.text
    assert len(caplog.records) == 2


def test_queries_without_an_id_or_with_another_s_are_told_apart(tmp_path):
    others = [{k: v for k, v in GOOD.items() if k != "query_id"}, GOOD, GOOD, {**GOOD, "query_id": "a~2"}]
    found = read_query_file(write(tmp_path / "q.jsonl", GOOD, *others))
    assert [query.query_id for query in found.queries] == ["a", "#2", "a~2", "a~3", "a~2~2"]
    assert found.to_dict() == {
        "format": "jsonl", "n_queries": 5, "left_out": {}, "mended": {"no_id": 1, "doubled_id": 3},
    }  # fmt: skip


def test_several_right_videos(tmp_path):
    row = {"query_id": 1, "query": "a cat", "video_ids": ["v", "w", "v"], "start_s": 0, "end_s": 1}
    also = {"query_id": 2, "query": "a cat", "video_id": "x", "video_ids": ["v", "x"]}
    path = write(tmp_path / "q.jsonl", row, also)
    one, two = read_queries(path)
    assert (one.video_ids, one.video_id, one.moments) == (("v", "w"), "v", ((0.0, 1.0),))
    assert (two.video_ids, two.moments) == (("x", "v"), ())
    assert read_query_file(path, strip_prefix="x").queries[1].video_ids == ("x", "v")
    with pytest.raises(QueryError, match="query '1' has several right videos"):
        paragraphs([one])
    assert fingerprint([one]) != fingerprint([replace(one, other_video_ids=())])


@pytest.mark.parametrize("named", [[], ["v", None], "v", 3, [[1]]])
def test_right_videos_that_are_not_all_named_are_none(tmp_path, named):
    good = {"query_id": 2, "query": "a cat", "video_ids": ["v"]}
    found = read_query_file(write(tmp_path / "q.jsonl", good, {**good, "query_id": 1, "video_ids": named}))
    kept = 2 if named in ("v", 3) else 1  # a single name is as good as a list of one
    assert len(found.queries) == kept
    assert found.notes.counts["no_video"] == 2 - kept


def test_a_query_keeps_the_right_videos_that_are_there_and_moments_go_with_theirs():
    query = Query("1", "x", "a", ((0.0, 1.0),), 2.0, ("b", "c"))
    assert query.among({"a", "b", "c"}) == query
    assert query.among({"a", "c"}) == Query("1", "x", "a", ((0.0, 1.0),), 2.0, ("c",))
    assert query.among({"c", "b"}) == Query("1", "x", "b", other_video_ids=("c",))
    assert query.among({"d"}) is None


def test_a_sound_file_has_no_notes_and_no_warning(tmp_path, caplog):
    found = read_query_file(write(tmp_path / "q.jsonl", GOOD))
    assert found.to_dict() == {"format": "jsonl", "n_queries": 1, "left_out": {}, "mended": {}}
    assert not caplog.records


def test_every_kind_is_documented():
    table = re.findall(r"^\| (\w+) \|.*\| (left out|mended)", query_notes.__doc__, re.MULTILINE)
    assert [kind for kind, _ in table] == list(KINDS)
    assert tuple(kind for kind, fate in table if fate == "mended") == MENDED


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("auto", "hello there", "cannot tell its format"),
        ("nonsense", "{}", "choose one of auto, jsonl"),
        ("jsonl", "{not json", "no queries in it that can be scored: lines that make no sense, left out: 1 (first"),
        ("charades", json.dumps(TVR), "not `VID start end##text`"),
        ("activitynet", "[1]", "not a JSON object"),
        ("activitynet", "{", ":2: not JSON"),
    ],
)
def test_a_file_that_is_none_of_the_formats_or_has_nothing_usable(tmp_path, form, text, says):
    with pytest.raises(QueryError, match=re.escape(says)):
        read_queries(write(tmp_path / "q.txt", text), form)


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
        ("msrvtt", "key,vid_key,video_id,sentence\nret0,m,video1,\n", "without a text, left out: 1 (first line 2)"),
        ("msrvtt", "{}", "no list `sentences`"),
        ("msrvtt", "{", "not JSON"),
        ("msvd", "abc_1_2\n", "without a text, left out: 1 (first line 1)"),
        ("didemo", "{}", "not a JSON list"),
        (
            "didemo",
            '[{"annotation_id": 1, "description": "x", "times": [[0, 0]]}]',
            "without a video, left out: 1 (first entry 0)",
        ),
    ],
)
def test_trimmed_benchmarks_gone_wrong(tmp_path, form, text, says):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(QueryError) as error:
        read_queries(path, form)
    assert says in str(error.value)
