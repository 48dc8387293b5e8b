"""Against a slow reference, which goes from unit to unit."""

import numpy as np
import pytest

from qasir import open_hybrid, open_index
from qasir.errors import NoIndexError, QueryError
from qasir.retrieval import moment_ranking, vector_index
from qasir.retrieval.hits import MOMENTS_SCHEMA
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.moment_ranking import MomentChoice, reach
from qasir.retrieval.moments import MomentRule, overlap, span
from qasir.retrieval.vector_source import StoredVectors
from tests.indexes import DIM, break_rows, give_texts, make_index, unit, writing

LENGTHS = [1, 5, 3, 3, 8, 2, 4, 30]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("made") / "i", LENGTHS, failed=["x/bad"])


def random_queries(n, seed=5):
    return unit(np.random.default_rng(seed).standard_normal((n, DIM)))


def windows(similarity, share):
    """{(first, last)} of one video's windows."""
    c = similarity.astype(np.float64)
    mean = min(c.mean(), c.max())
    found = set()
    for p, value in enumerate(c):
        if value < mean or (p > 0 and c[p - 1] >= value) or (p + 1 < len(c) and c[p + 1] > value):
            continue
        least = min(mean + share * (value - mean), value)
        first = last = p
        while first > 0 and c[first - 1] >= least:
            first -= 1
        while last + 1 < len(c) and c[last + 1] >= least:
            last += 1
        found.add((first, last))
    return found


def expected(searcher, query, granularity, share, choice, ids):
    """[(video_id, score, start, end)] of the moments that should be found."""
    candidates = []
    for video_id in ids:
        table = searcher.side.vectors.load(granularity, [video_id])
        if not table.video_ids or len(table.features.unusable):
            continue
        c = query @ table.features.vectors.T
        for first, last in windows(c, share):
            score = np.float32(c[first : last + 1].astype(np.float64).mean())
            candidates.append((-score, video_id, first, last, table.start_s[first], table.end_s[last]))
    kept = []
    for score, video_id, _, _, start, end in sorted(candidates):
        same = [one for one in kept if one[0] == video_id]
        if choice.per_video is not None and len(same) >= choice.per_video:
            continue
        if choice.nms is not None and any(overlap(one[2:], (start, end)) > choice.nms + 1e-9 for one in same):
            continue
        kept.append((video_id, -score, start, end))
    return kept[: choice.top_k]


def rows(found, ids):
    return [
        (ids[v], score, start, end)
        for v, score, start, end in zip(
            found.video.tolist(), found.score.tolist(), found.start_s.tolist(), found.end_s.tolist(), strict=True
        )
    ]


def assert_same(found, wanted):
    assert [one[0] for one in found] == [one[0] for one in wanted]
    assert [one[2:] for one in found] == [one[2:] for one in wanted]
    assert [one[1] for one in found] == pytest.approx([one[1] for one in wanted], abs=1e-6)


@pytest.mark.parametrize("granularity", ["cell", "super-image"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(
    "choice",
    [
        MomentChoice(1000), MomentChoice(7), MomentChoice(20, 3, 0.0), MomentChoice(10, 1),
        MomentChoice(1000, None, 0.0), MomentChoice(50, None, 0.5),
    ],
)  # fmt: skip
def test_moments_are_those_of_a_loop_over_units(made, granularity, share, choice):
    searcher = open_index(made.uri, rule=MomentRule(share))
    queries = random_queries(4)
    found = searcher.rank_moments(give_texts(searcher, queries), choice, granularity)
    ids = searcher.videos().video_ids
    for query, some in zip(queries, found, strict=True):
        assert_same(rows(some, ids), expected(searcher, query, granularity, share, choice, ids))


def test_read_in_parts_they_are_the_same(made, monkeypatch):
    queries, choice = random_queries(5), MomentChoice(30, 4, 0.0)
    whole, parts = open_index(made.uri), open_index(made.uri)
    texts = give_texts(whole, queries), give_texts(parts, queries)
    found = whole.rank_moments(texts[0], choice)
    monkeypatch.setattr(moment_ranking, "_NUMBERS_HELD", 0)
    monkeypatch.setattr(moment_ranking, "_NUMBERS_AT_ONCE", 40 * DIM)
    monkeypatch.setattr(moment_ranking, "_SIMILARITIES_AT_ONCE", 50)
    ids = whole.videos().video_ids
    for a, b in zip(found, parts.rank_moments(texts[1], choice), strict=True):
        assert_same(rows(a, ids), rows(b, ids))


def test_windows_of_every_length_stop_at_both_ends_of_a_video():
    generator = np.random.default_rng(0)
    for length in range(1, 40):
        values = np.concatenate([[-np.inf], generator.integers(0, 3, length) / 2, [-np.inf]])
        peaks = np.arange(1, length + 1)
        for least in (0.0, 0.5, 1.0):
            reached = peaks[values[peaks] >= least]
            left, right = reach(values, reached, np.full(len(reached), least))
            for p, a, b in zip(reached.tolist(), left.tolist(), right.tolist(), strict=True):
                assert (values[p - a : p + b + 1] >= least).all()
                assert values[p - a - 1] < least > values[p + b + 1]


def test_ties_go_by_video_and_time(tmp_path):
    """Units along axes, so that cosines are exact, and many of them equal."""
    index = make_index(tmp_path / "i", [6, 6, 9], grid=1, cells=False)
    searcher = open_index(index.uri, rule=MomentRule(0.7))
    table = searcher.side.vectors.load()
    generator = np.random.default_rng(3)
    table.features.vectors[:] = np.eye(DIM, dtype=np.float32)[generator.integers(0, 3, 21)]
    query = np.zeros(DIM, np.float32)
    query[:3] = 0.75, 0.5, 0.25
    for choice in (MomentChoice(100), MomentChoice(3), MomentChoice(100, 2, 0.0)):
        (found,) = searcher.rank_moments(give_texts(searcher, query[None]), choice)
        ids = searcher.videos().video_ids
        wanted = expected(searcher, query, "super-image", 0.7, choice, ids)
        assert rows(found, ids) == wanted
        assert len({one[1] for one in wanted}) < len(wanted)


def test_a_video_that_fits_alike_all_over_is_one_moment():
    """Rounding puts the mean of equal numbers above them, which left the moment without an end."""
    for length in (1, 3, 13, 100):
        for value in np.random.default_rng(0).random(50).astype(np.float32):
            assert span(np.full(length, value), 0.7) == (0, length - 1)
            assert windows(np.full(length, value), 0.7) == {(0, length - 1)}


def test_moments_of_a_search(made):
    searcher = open_index(made.uri)
    (text,) = give_texts(searcher, random_queries(1))
    found = searcher.search_moments(text)
    assert found.exact
    assert found.query == text
    scores = {hit.video_id: hit.score for hit in searcher.search(text, 100)}
    assert len(found) == min(20, sum(min(3, len(hits)) for hits in by_video(searcher, text).values()))
    for hit in found:
        assert hit.video_score == pytest.approx(scores[hit.video_id])
        assert hit.uri == str(int(hit.video_id[1:]))
    for hits in by_video(searcher, text).values():
        assert len(hits) <= 3
        assert not any(overlap(spans(a), spans(b)) > 1e-9 for i, a in enumerate(hits) for b in hits[:i])
    table = found.to_arrow()
    assert table.schema == MOMENTS_SCHEMA
    assert table["rank"].to_pylist() == list(range(1, len(found) + 1))
    assert found.to_pandas()["video_id"].tolist() == [hit.video_id for hit in found]
    assert max(len(hits) for hits in by_video(searcher, text, per_video=None).values()) > 3
    assert searcher.search_moments(text, method=Max())[0].video_score == pytest.approx(
        {hit.video_id: hit.score for hit in searcher.search(text, 100, Max())}[found[0].video_id]
    )


def by_video(searcher, text, per_video=3):
    found = {}
    for hit in searcher.search_moments(text, 1000 if per_video is None else 20, per_video=per_video):
        found.setdefault(hit.video_id, []).append(hit)
    return found


def spans(hit):
    return hit.start_s, hit.end_s


def test_a_filter_leaves_moments_of_what_it_keeps_and_reads_no_others_cells(made, monkeypatch):
    searcher = open_index(made.uri)
    (text,) = give_texts(searcher, random_queries(1))
    read = []
    load = StoredVectors.load
    monkeypatch.setattr(StoredVectors, "load", lambda self, *asked: read.append(asked) or load(self, *asked))
    found = searcher.search_moments(text, where="video_id = 'v004'")
    assert {hit.video_id for hit in found} == {"v004"}
    assert [asked for asked in read if asked[:1] == ("cell",)] == [("cell", ["v004"])]
    assert searcher.search_moments(text, where="duration_s > 1e9") == []
    everything = searcher.search_moments(text, 1000, per_video=None)
    assert list(searcher.search_moments(text, 1000, per_video=None, where="duration_s > 10")) == [
        hit for hit in everything if hit.video_id in searcher.select("duration_s > 10")
    ]


def test_from_the_vector_index_videos_are_recalled_first(tmp_path):
    index = make_index(tmp_path / "i", [4] * 700, grid=2)
    with writing(index) as writer:
        vector_index.build(writer)
    searcher = open_index(index.uri)
    cells = searcher.side.vectors.load("cell", ["v123"]).features.vectors
    texts = give_texts(searcher, unit(cells[4:6].mean(axis=0))[None])
    exact, found = searcher.search_moments(texts[0], exact=True), searcher.search_moments(texts[0])
    assert exact.exact
    assert not found.exact
    assert found[0] == exact[0]
    assert found[0].video_id == "v123"
    kept = searcher.search_moments(texts[0], where="video_id < 'v200'")
    assert kept.exact  # so few are left that all are looked at
    assert list(kept) == list(searcher.search_moments(texts[0], where="video_id < 'v200'", exact=True))
    with pytest.raises(NoIndexError, match="build_vector_index"):
        open_index(make_index(tmp_path / "j", [3]).uri).search_moments("a cat", exact=False)


@pytest.mark.parametrize("cells", [True, False])
def test_units_that_are_not_finite_are_in_no_moment(tmp_path, cells):
    index = make_index(tmp_path / "i", [4, 6, 5], grid=1 + cells, cells=cells)
    break_rows(index, {"v001": [2], "v002": range(5)}, cells=cells, lost=["v000"] if cells else ())
    searcher = open_index(index.uri)
    query = random_queries(1)
    (text,) = give_texts(searcher, query)
    found = searcher.search_moments(text, 100, per_video=None)
    assert {hit.video_id for hit in found} == ({"v001"} if cells else {"v000", "v001"})
    granularity = "cell" if cells else "super-image"
    wanted = expected(searcher, query[0], granularity, 0.7, MomentChoice(100, None, 0.0), searcher.videos().video_ids)
    assert_same([(hit.video_id, hit.score, *spans(hit)) for hit in found], wanted)


def test_of_two_indexes_that_of_the_finest_units_ranks_moments(tmp_path):
    large = make_index(tmp_path / "large", [2, 3, 4], grid=2, cells=False)
    small = make_index(tmp_path / "small", [8, 12, 16], grid=1, cells=False, seed=1)
    both, alone = open_hybrid(large.uri, small.uri), open_index(small.uri)
    queries = random_queries(1)
    for side in (0, 1):
        (text,) = give_texts(both, queries, side)
    give_texts(alone, queries)
    scores = {hit.video_id: hit.score for hit in both.search(text)}
    for ours, theirs in zip(both.search_moments(text), alone.search_moments(text), strict=True):
        assert (ours.video_id, ours.score, spans(ours)) == (theirs.video_id, theirs.score, spans(theirs))
        assert ours.video_score == pytest.approx(scores[ours.video_id])
    with pytest.raises(QueryError, match="every video"):
        both.search_moments(text, exact=False)


def test_numbers_that_are_none(made):
    searcher = open_index(made.uri)
    (text,) = give_texts(searcher, random_queries(1))
    with pytest.raises(QueryError, match="top-k 0: choose 1 or more"):
        searcher.search_moments(text, 0)
    with pytest.raises(QueryError, match="moments of one video 0: choose 1 or more"):
        searcher.search_moments(text, per_video=0)
    with pytest.raises(QueryError, match="empty"):
        searcher.search_moments(" ")
    assert searcher.search_moments(text, 1, Attention())[0].score > 0
