import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lance
import numpy as np
import pytest

from qasir.app.errors import NotFoundError, UnsearchableError
from qasir.app.following import BEING_MADE, GONE, NOTHING_ENCODED, Followed
from qasir.app.question import By, Question, Ranking
from qasir.errors import NoIndexError, QueryError, SpecError
from qasir.index.schemas import FORMAT_KEY, runs_schema
from qasir.retrieval.asking import Like, Part
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.fusion import Fusion
from qasir.retrieval.opening import open_hybrid, open_index
from qasir.retrieval.vector_index import build
from tests.indexes import make_index, writing
from tests.qasir.app.engines import made_up_vectors, serving


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("made-up") / "i", [1 + v % 5 for v in range(30)], failed=["broken"])


@pytest.fixture(scope="module")
def engine(index):
    with serving(index.uri) as engine:
        yield engine


def searcher_of(uri, *texts):
    searcher = open_index(str(uri))
    searcher.side.texts.remember(dict(zip(texts, made_up_vectors(searcher.side.index.spec, texts), strict=True)))
    return searcher


def plain(hits):
    return [(hit.video_id, hit.start_s, hit.end_s, hit.uri) for hit in hits]


def scores(hits):
    return pytest.approx([hit.score for hit in hits], abs=1e-6)


@pytest.mark.parametrize("name", [None, "mean", "max", "tib", "weighted", "coarse-to-fine"])
def test_it_finds_what_the_searcher_finds(engine, index, name):
    searcher = searcher_of(index.uri, "one")
    ranking = Ranking(aggregation=name)
    found = engine.search(Question(("one",), top_k=7, ranking=ranking))
    expected = searcher.search("one", 7, found.method)
    assert plain(found.hits) == plain(expected)
    assert [hit.score for hit in found.hits] == scores(expected)
    found = engine.search(Question(("one",), top_k=7, by="moment", per_video=2, ranking=ranking))
    expected = searcher.search_moments("one", 7, found.method, per_video=2)
    assert plain(found.hits) == plain(expected)
    assert [hit.video_score for hit in found.hits] == pytest.approx([hit.video_score for hit in expected], abs=1e-6)


def test_many_at_once_get_what_each_would_get_alone(engine, monkeypatch):
    questions = [
        Question((f"text {i}", *([Like("v003", 1.0)] if i % 7 == 0 else [])), top_k=3 + i % 3, by=by)
        for i in range(20)
        for by in ("video", "moment")
    ]
    alone = [engine.search(one) for one in questions]
    sizes = []
    together, go = engine._questions._answer, threading.Event()

    def slowly(asked):
        go.wait(30)  # until all are asked
        sizes.append(len(asked))
        return together(asked)

    monkeypatch.setattr(engine._questions, "_answer", slowly)
    with ThreadPoolExecutor(len(questions)) as pool:
        asked = [pool.submit(engine.search, one) for one in questions]
        while len(engine._questions._waiting) < len(questions) - 4:  # which as many threads may have taken
            threading.Event().wait(0.001)
        go.set()
        many = [one.result() for one in asked]
    assert max(sizes) >= len(questions) - 4
    for one, other in zip(alone, many, strict=True):
        assert plain(one.hits) == plain(other.hits)
        assert [hit.score for hit in one.hits] == scores(other.hits)
        assert (one.noise is None) == (other.noise is None)


def test_candidates_of_a_vector_index_are_ranked_as_the_searcher_ranks_them(tmp_path):
    index = make_index(tmp_path / "i", [10] * 60)
    with serving(index.uri) as engine:
        with writing(index) as writer:
            build(writer)
        wait_for(lambda: engine.search(Question(("a",))), lambda one: not one.hits.exact)
        searcher = searcher_of(index.uri, "a")
        answers: list[tuple[By, Any]] = [
            ("video", searcher.search("a", 5)), ("moment", searcher.search_moments("a", 5)),
        ]  # fmt: skip
        for by, expected in answers:
            found = engine.search(Question(("a",), top_k=5, by=by))
            assert plain(found.hits) == plain(expected)
            assert (found.hits.exact, found.noise.n) == (False, 600 if by == "video" else 2400)
        exact = engine.search(Question(("a",), top_k=5, ranking=Ranking(exact=True)))
        assert exact.hits.exact


def test_one_that_cannot_be_answered_leaves_the_others_alone(engine):
    bad = Question(("text",), where="nonsense !")
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(engine.search, bad if i % 2 else Question((f"text {i}",))) for i in range(8)]
        for i, one in enumerate(asked):
            if i % 2:
                with pytest.raises(QueryError, match="not a SQL condition"):
                    one.result()
            else:
                assert len(one.result().hits) == 20


def test_what_cannot_be_asked_is_refused(engine):
    refused: list[tuple[tuple[Part, ...], str]] = [
        (("",), "empty"), ((Like("nope", 1.0),), "no encoded video"), ((), "nothing to search for"),
    ]  # fmt: skip
    for parts, message in refused:
        with pytest.raises(QueryError, match=message):
            engine.search(Question(parts))
    with pytest.raises(SpecError, match="aggregation"):
        engine.search(Question(("a",), ranking=Ranking(aggregation="nope")))
    with pytest.raises(QueryError, match="no use"):
        engine.search(Question(("a",), ranking=Ranking(aggregation="max", numbers={"temperature": (0.1,)})))
    with pytest.raises(NoIndexError, match="vector index"):
        engine.search(Question(("a",), ranking=Ranking(exact=False)))
    for number in (-1, 1):
        with pytest.raises(NotFoundError):
            engine.search(Question(("a",)), number)


def test_how_the_server_ranks_is_the_default_of_each_question(index):
    with serving(index.uri, ranking=Ranking(numbers={"temperature": (0.3,)})) as engine:
        assert engine.search(Question(("a",))).method == Attention(0.3)
        assert engine.search(Question(("a",), ranking=Ranking("attention"))).method == Attention()
        numbers = Ranking(numbers={"temperature": (0.1,)})
        assert engine.search(Question(("a",), ranking=numbers)).method == Attention(0.1)
    with pytest.raises(QueryError, match="grid 1"):
        serving(index.uri, ranking=Ranking("sparse:2")).__enter__()


def test_the_catalogue_has_encoded_videos_only(engine):
    assert engine.video("v003").codec == "h264"
    assert engine.video("v003").media_offset_s is None
    for name in ("broken", "nope", "", "v003\x00", "../v003", "\ud800"):
        with pytest.raises(NotFoundError):
            engine.video(name)
    with pytest.raises(NotFoundError, match="no picture"):  # made without thumbnails
        engine.thumbnail("v003", 0.0)


def test_a_time_line_covers_one_video(engine):
    line = engine.time_line("v004", Question(("one",), top_k=3))
    found = {hit.video_id: hit for hit in engine.search(Question(("one",), top_k=30)).hits}
    assert line.score == pytest.approx(found["v004"].score, abs=1e-6)
    assert len(line.units) == len(line.attention) == 5 * 4 - 1
    assert line.attention.sum() == pytest.approx(1.0, abs=1e-5)
    assert line.granularity == "cell"
    assert 1 <= len(line.moments) <= 3
    assert (line.moments.start_s[0], line.moments.end_s[0]) in [
        (hit.start_s, hit.end_s)
        for hit in engine.search(Question(("one",), top_k=200, by="moment")).hits
        if hit.video_id == "v004"
    ]
    fused = engine.time_line("v004", Question(("one", Like("v001", 1.0))))
    assert np.isfinite(fused.score)
    nothing = engine.time_line("v004", Question(()))
    assert (nothing.score, nothing.attention, len(nothing.units), len(nothing.moments)) == (None, None, 19, 0)
    with pytest.raises(NotFoundError):
        engine.time_line("broken", Question(("one",)))


def test_two_indexes_are_searched_one_by_one_or_together(tmp_path):
    large = make_index(tmp_path / "large", [2] * 40, grid=2)
    small = make_index(tmp_path / "small", [4] * 40, seed=1, grid=1, cells=False)
    with serving(large.uri, small.uri) as engine:
        one, other = (engine.search(Question(("a",), top_k=40), number).hits for number in (0, 1))
        assert [hit.score for hit in one] != scores(other)
    with serving(large.uri, small.uri, hybrid="fusion") as engine:
        both = [engine.search(Question(("a",), top_k=5), number) for number in (0, 1)]
        assert plain(both[0].hits) == plain(both[1].hits)
        assert isinstance(both[0].method, Fusion)
        assert both[0].noise.of == "video"
        assert (both[0].view.version, both[1].view.version) == (large.version, small.version)
        searcher = open_hybrid(large.uri, small.uri)
        for side in searcher.sides:
            side.texts.remember({"a": made_up_vectors(side.index.spec, ["a"])[0]})
        assert plain(both[0].hits) == plain(searcher.search("a", 5))
    with pytest.raises(QueryError, match="hybrid"):
        serving(large.uri, hybrid="fusion").__enter__()


# Following


def followed(uri):
    return Followed(str(uri), (), made_up_vectors)


def test_new_queries_see_what_a_job_commits_and_running_ones_finish_on_theirs(tmp_path):
    index = make_index(tmp_path / "i", [2] * 3)
    with serving(index.uri) as engine:
        before = engine.view()
        texts = before.opened.side.texts
        make_index(tmp_path / "i", [2] * 2, prefix="w")
        found = wait_for(lambda: engine.search(Question(("a",))), lambda one: len(one.hits) == 5)
        assert found.view.version > before.version
        assert found.view.opened.side.texts is texts  # the model and what it remembers stay
        assert len(engine.search_in(before, Question(("a",))).hits) == 3
        assert engine.video("w000").uri == "0"


def test_memory_of_old_versions_is_given_back(tmp_path):
    index = make_index(tmp_path / "i", [2] * 3)
    with serving(index.uri) as engine:
        engine.search(Question(("a",), by="moment"))
        opened = engine.view().opened
        old = [weakref.ref(one) for one in (opened, opened.side, opened.snapshot, opened.side.vectors, opened.sample)]
        del opened
        make_index(tmp_path / "i", [2] * 2, prefix="w")
        wait_for(lambda: len(engine.search(Question(("a",))).hits), lambda n: n == 5)
        engine.search(Question(("b",)))
        gc.collect()
        assert [one() for one in old] == [None] * 5


def test_an_index_that_is_being_made_fills(tmp_path):
    lance.write_dataset(runs_schema().empty_table(), tmp_path / "i" / "runs.lance")
    with serving(tmp_path / "i") as engine:
        assert engine.followed[0].problem == BEING_MADE
        found = engine.search(Question(("a",)))
        assert (list(found.hits), found.view.version, found.noise) == ([], None, None)
        with pytest.raises(NotFoundError):
            engine.video("v000")
        make_index(tmp_path / "i", [2] * 3)
        found = wait_for(lambda: engine.search(Question(("a",))), lambda one: one.hits)
        assert len(found.hits) == 3
        assert engine.followed[0].problem is None


def test_an_index_of_failures_only_answers_nothing(tmp_path):
    index = make_index(tmp_path / "i", [1], failed=["broken"])
    index.table("videos").delete("status = 'encoded'")
    with serving(index.uri) as engine:
        assert list(engine.search(Question(("a",))).hits) == []
        assert engine.followed[0].problem == NOTHING_ENCODED
        with pytest.raises(QueryError, match="SQL"):
            engine.search(Question(("a",), where="nope !"))


def test_where_there_is_no_index_none_is_served(tmp_path):
    with pytest.raises(NoIndexError, match="no index at"):
        followed(tmp_path / "nothing")


def test_one_that_is_deleted_is_searched_on_and_another_in_its_place_is_seen(tmp_path):
    uri = tmp_path / "i"
    make_index(uri, [2] * 3)
    make_index(tmp_path / "other", [2] * 4, prefix="w")
    one = followed(uri)
    version = one.opened.version
    assert not one.look()
    shutil.rmtree(uri)
    assert not one.look()
    assert one.problem == GONE
    assert one.opened is not None
    shutil.copytree(tmp_path / "other", uri)
    one._not_before = 0.0
    assert one.look()
    assert one.problem is None
    assert (len(one.opened.rows), one.opened.version) == (4, version)


def test_another_index_in_its_place_with_the_same_versions_is_seen_in_time(tmp_path):
    uri = tmp_path / "i"
    make_index(uri, [2] * 3)
    make_index(tmp_path / "other", [2] * 4, prefix="w")
    one = followed(uri)
    shutil.move(uri, tmp_path / "away")
    shutil.move(tmp_path / "other", uri)
    assert any(one.look() for _ in range(10))
    assert len(one.opened.rows) == 4


def test_one_of_a_newer_format_is_told_and_the_old_version_searched_on(tmp_path):
    index = make_index(tmp_path / "i", [2] * 3)
    one = followed(index.uri)
    videos = index.table("videos").to_table()
    newer = videos.replace_schema_metadata({**videos.schema.metadata, FORMAT_KEY: b"99"})
    lance.write_dataset(newer, index.table_uri("videos"), mode="overwrite", schema=newer.schema)
    assert not one.look()
    assert "update qasir" in one.problem
    assert len(one.opened.rows) == 3


def test_opening_takes_at_most_a_tenth_of_the_time(tmp_path):
    index = make_index(tmp_path / "i", [2])
    one = followed(index.uri)
    now = iter([100.0, 102.0, 110.0, 119.9, 120.1, 120.2])
    clock = lambda: next(now)  # noqa: E731
    make_index(tmp_path / "i", [2], prefix="w")
    assert one.look(clock)  # took 2 s
    make_index(tmp_path / "i", [2], prefix="x")
    assert [one.look(clock) for _ in range(3)] == [False, False, True]


def wait_for(look, is_done, seconds=60):
    for _ in range(seconds * 20):
        found = look()
        if is_done(found):
            return found
        threading.Event().wait(0.05)
    raise AssertionError(f"not within {seconds} s: {found}")


def test_a_filter_is_worked_out_by_who_asks(engine, monkeypatch):
    view = engine.view()
    threads = []
    select = view.searching.searcher.side.snapshot.select

    def selecting(where):
        threads.append(threading.current_thread())
        return select(where)

    monkeypatch.setattr(view.searching.searcher.side.snapshot, "select", selecting)
    for by in ("video", "moment"):
        found = engine.search(Question(("a", Like("v003", 1.0)), by=by, where="video_id < 'v003'"))
        assert {hit.video_id for hit in found.hits} == {"v000", "v001", "v002"}
    assert set(threads) == {threading.current_thread()}, "others wait for the threads that rank"
    kept = view.searching.select("true")
    assert view.searching.select("true") is kept
    del kept
    gc.collect()
    assert "true" not in view.searching._selections


def test_indexes_of_two_corpora_are_no_hybrid(tmp_path):
    large = make_index(tmp_path / "large", [2] * 5)
    other = make_index(tmp_path / "other", [2] * 5, prefix="w", seed=1)
    with pytest.raises(QueryError, match="not over one corpus"):
        serving(large.uri, other.uri, hybrid="fusion").__enter__()


def test_a_hybrid_that_comes_apart_says_so(tmp_path):
    large, small = (make_index(tmp_path / name, [2] * 5, seed=seed) for seed, name in enumerate(("large", "small")))
    with serving(large.uri, small.uri, hybrid="fusion") as engine:
        assert [engine.waiting(number) for number in (0, 1)] == [None, None]
        make_index(tmp_path / "large", [2] * 5, prefix="w")
        wait_for(lambda: engine.waiting(1), lambda why: why is not None)
        assert "not over one corpus" in engine.waiting(1)
        with pytest.raises(UnsearchableError, match="not over one corpus"):
            engine.search(Question(("a",)))
        make_index(tmp_path / "small", [2] * 5, prefix="w")
        wait_for(lambda: engine.waiting(0), lambda why: why is None)
        assert len(engine.search(Question(("a",))).hits) == 10


def test_a_hybrid_of_which_one_is_empty_waits(tmp_path):
    large = make_index(tmp_path / "large", [2] * 5)
    empty = make_index(tmp_path / "empty", [1], failed=["broken"], prefix="w")
    empty.table("videos").delete("status = 'encoded'")
    with serving(large.uri, empty.uri, hybrid="fusion") as engine:
        assert [engine.waiting(number) for number in (0, 1)] == [NOTHING_ENCODED] * 2
        assert list(engine.search(Question(("a",))).hits) == []


def test_a_server_is_not_started_to_search_by_a_vector_index_that_is_not_there(index):
    with pytest.raises(NoIndexError, match="vector index"):
        serving(index.uri, ranking=Ranking(exact=False)).__enter__()
