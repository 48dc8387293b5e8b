"""Finds moments by text or by picture: in one index, or in two of one corpus together.

A searcher is put together from its sides: an index, where its vectors come from, how a text becomes a vector, and a
ranker. What a search needs is read at the first one and kept: every super image for exact scoring, the videos' vectors
for recall by video, and nothing but candidates where there is a vector index.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.index.index import Index
from qasir.index.snapshot import Snapshot
from qasir.retrieval.asking import Asked, Part, fused, part_vectors, parts_of
from qasir.retrieval.granularity import check_granularity
from qasir.retrieval.hits import Hit, Hits, ManyHits, MomentHit, MomentHits
from qasir.retrieval.methods.method import Method
from qasir.retrieval.moment_ranking import MomentChoice, RankedMoments, rank_moments
from qasir.retrieval.moments import MomentRule, finest, moments
from qasir.retrieval.nominating import candidates, is_nominated
from qasir.retrieval.ranker import ExactRanker, Ranker, RankerOfSome
from qasir.retrieval.text_encoder import TextEncoder
from qasir.retrieval.vector_source import SomeVectors, VectorSource, VideoList
from qasir.vlm.query_text import check_query

_SCORES_AT_ONCE = 1 << 26
"""Scores (queries times videos) held at once by a search; 256 MiB."""
_NAMED = 3


@dataclass(frozen=True)
class Side:
    """An index, and what searching it takes. default: how it ranks unless asked otherwise."""

    index: Index
    vectors: VectorSource
    texts: TextEncoder
    ranker: Ranker
    default: Method

    @property
    def snapshot(self) -> Snapshot:
        """The tables, as they were when the index was opened."""
        return self.vectors.snapshot


@dataclass(frozen=True, eq=False)
class Selection:
    """What a filter picked of the videos of a searcher."""

    video_ids: Set[str]


Where = str | Selection
"""SQL over the columns of `videos`, or what that picked before."""


class Searcher:
    """Searches one index, or two of one corpus, the expensive model's first. default: how it ranks unless asked
    otherwise.

    among: for each side, (V,) rising numbers of its videos that are ranked, the same videos for all; by default all.
    left_out: ids of the videos that are encoded in an index and not ranked for that.
    listed: the only ids that are ranked, where not all are (`of_some`).
    """

    def __init__(
        self,
        sides: Sequence[Side],
        default: Method,
        rule: MomentRule | None = None,
        *,
        among: Sequence[NDArray[np.int64]] = (),
        left_out: Sequence[str] = (),
        listed: Set[str] | None = None,
    ) -> None:
        self.sides = tuple(sides)
        self.default = default
        self.rule = rule or MomentRule()
        self.left_out = tuple(left_out)
        self._listed = listed
        self.rankers: list[Ranker] = [side.ranker for side in sides]
        if among:
            self.rankers = [RankerOfSome(side.ranker, numbers) for side, numbers in zip(sides, among, strict=True)]

    @property
    def pointer(self) -> int:
        """The number of the side whose super images and cells say where a moment is: that of the finest units."""
        if len(self.sides) == 1:
            return 0
        return min(range(len(self.sides)), key=lambda i: _seconds_a_unit(self.sides[i]))

    @property
    def side(self) -> Side:
        """The side that says where a moment is: the only one, or that of the finest units."""
        return self.sides[self.pointer]

    def alone(self, number: int) -> "Searcher":
        """A searcher of one side only, over all its videos, or those that are listed."""
        one = Searcher([self.sides[number]], self.sides[number].default, self.rule)
        return one if self._listed is None else one.of_some(self._listed)

    def of_some(self, video_ids: Set[str]) -> "Searcher":
        """A searcher of only those of its videos, always exact. Raises QueryError when there are none of them."""
        some = [video_id for video_id in self.videos().video_ids if video_id in video_ids]
        if not some:
            uris = " and ".join(side.index.uri for side in self.sides)
            wanted, there = (", ".join(sorted(ids)[:_NAMED]) for ids in (video_ids, self.videos().video_ids))
            raise QueryError(
                f"none of the {len(video_ids)} listed videos is in the index at {uris}: the first are {wanted}; it has "
                f"{there}"
            )
        lists = [side.ranker.videos() for side in self.sides]
        among = [np.array([videos.place[video_id] for video_id in some], dtype=np.int64) for videos in lists]
        left_out = [video_id for video_id in self.left_out if video_id in video_ids]
        listed = video_ids if self._listed is None else video_ids & self._listed
        return Searcher(self.sides, self.default, self.rule, among=among, left_out=left_out, listed=listed)

    def videos(self) -> VideoList:
        """The videos that are ranked. Raises NoIndexError when there is none."""
        return self.rankers[0].videos()

    def select(self, where: Where) -> Set[str]:
        """Ids that a SQL filter over `videos` picks. Raises QueryError when it is not one."""
        return where.video_ids if isinstance(where, Selection) else self.side.snapshot.select(where)

    def preload(self) -> int:
        """Keep what searches through the vector index read in memory, for many of them; returns about how many bytes
        that takes."""
        for side in self.sides:
            side.snapshot.rows()
        return sum(side.snapshot.preload() for side in self.sides)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) L2-normalised embeddings of texts for the only index, or the one that says where a moment is; each
        distinct text is encoded once."""
        return self.side.texts.encode(texts)

    def queries(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """For each side, (n, D) embeddings of texts."""
        return [side.texts.encode(texts) for side in self.sides]

    def score(
        self, texts: Sequence[str], method: Method | None = None, *, among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """(n, V) scores of every text (repeats included) against every video of `videos()`.

        among (V,): the videos that count, when not all do; a first stage recalls only those. Scores of others mean
        nothing.
        """
        return self.score_vectors(self.queries(texts), method, among=among)

    def score_vectors(
        self,
        queries: Sequence[NDArray[np.float32]],
        method: Method | None = None,
        *,
        among: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """`score` for query embeddings (Q, D), L2-normalised, an array for each side. Raises QueryError for another
        number."""
        if len(queries) != len(self.sides):
            raise QueryError(f"{len(queries)} arrays of query embeddings for {len(self.sides)} indexes")
        method = self.checked(method)
        return method.score(queries, self.rankers, among)

    def score_asked(
        self, asked: Sequence[Asked], method: Method | None = None, *, where: Where | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """((Q, V) scores of whatever is asked for, every video compared, minus infinity where the filter leaves it out;
        (Q, D) vectors that tell where a moment is). Arguments as of `search`."""
        method = self.checked(method)
        allowed = None if where is None else self.select(where)
        return self._scored([self._checked(one, 1) for one in asked], method, allowed)

    def score_one(self, asked: Asked, video_id: str, method: Method | None = None) -> tuple[float, NDArray[np.float32]]:
        """(the score of one of the videos, (D,) the vector that tells where its moments are). Reads that video only
        where its score does not depend on the others'. Raises QueryError where it is not among those ranked."""
        method = self.checked(method)
        if video_id not in self.videos().place:
            raise QueryError(f"video {video_id!r} is not among those that are ranked")
        parts = self._checked(asked, 1)
        if len(parts) > 1 or len(self.sides) > 1:
            scores, vectors = self._scored([parts], method, None)
            return float(scores[0, self.videos().place[video_id]]), vectors[0]
        (side,) = self.sides
        query = part_vectors(parts, side)
        alone = SomeVectors(side.vectors.load("super-image", [video_id]).covering([video_id]), side.vectors)
        return float(method.score([query], [ExactRanker(alone)])[0, 0]), query[0]

    def search(
        self,
        asked: Asked,
        top_k: int = 10,
        method: Method | None = None,
        *,
        where: Where | None = None,
        exact: bool | None = None,
    ) -> Hits:
        """The `top_k` best videos, best first; fewer when the corpus, or what the filter leaves of it, has fewer.

        asked: a text; or a `Picture`, a place in a video (`Like`), or several of these together.
        where: any SQL over the columns of `videos`, such as "duration_s > 60". exact: True compares every video, False
        only candidates from the vector index; None takes the vector index where there is one and the method allows it.
        Several parts together compare every video.
        """
        return self.search_many([asked], top_k, method, where=where, exact=exact)[0]

    def search_many(
        self,
        asked: Sequence[Asked],
        top_k: int = 10,
        method: Method | None = None,
        *,
        where: Where | None = None,
        exact: bool | None = None,
    ) -> ManyHits:
        """`search` for many at once."""
        method = self.checked(method)
        questions = [self._checked(one, top_k) for one in asked]
        allowed = None if where is None else self.select(where)
        found: dict[int, Hits] = {}
        for i in self._nominated_ones(questions, method, exact):
            found[i] = self._nominated(questions[i], top_k, method, allowed)
        for some in self._together(i for i in range(len(questions)) if i not in found):
            found |= zip(some, self._ranked([questions[i] for i in some], top_k, method, allowed), strict=True)
        return ManyHits(found[i] for i in range(len(questions)))

    def search_moments(
        self,
        asked: Asked,
        top_k: int = 20,
        method: Method | None = None,
        *,
        per_video: int | None = 3,
        where: Where | None = None,
        exact: bool | None = None,
    ) -> MomentHits:
        """The `top_k` best moments of all videos, best first; at most `per_video` of one (None: any number), of which
        no two overlap. `qasir.retrieval.moment_ranking` says which there are, what they score and what that costs.

        They start and end at the finest granularity stored. Of two indexes that of the finest units ranks the moments;
        the videos' own scores are by `method` over both. where, exact: as for `search`; from the vector index, the
        videos that it nominates are recalled first, then the moments of those are ranked.
        """
        return self.search_many_moments([asked], top_k, method, per_video=per_video, where=where, exact=exact)[0]

    def search_many_moments(
        self,
        asked: Sequence[Asked],
        top_k: int = 20,
        method: Method | None = None,
        *,
        per_video: int | None = 3,
        where: Where | None = None,
        exact: bool | None = None,
    ) -> list[MomentHits]:
        """`search_moments` for many at once."""
        method = self.checked(method)
        questions = [self._checked(one, top_k) for one in asked]
        if per_video is not None and per_video < 1:
            raise QueryError(f"moments of one video {per_video}: choose 1 or more")
        allowed = None if where is None else self.select(where)
        choice = MomentChoice(top_k, per_video, nms=0.0)
        found: dict[int, MomentHits] = {}
        for i in self._nominated_ones(questions, method, exact):
            found[i] = self._nominated_moments(questions[i], choice, method, allowed)
        for some in self._together(i for i in range(len(questions)) if i not in found):
            found |= zip(some, self._ranked_moments([questions[i] for i in some], choice, method, allowed), strict=True)
        return [found[i] for i in range(len(questions))]

    def _nominated_ones(self, questions: Sequence[tuple[Part, ...]], method: Method, exact: bool | None) -> list[int]:
        """The numbers of the questions that the vector index answers, whose texts are encoded together and
        remembered."""
        sizes = {len(parts): parts for parts in questions}
        is_nominated_at = {size: self.is_nominated(parts, method, exact) for size, parts in sizes.items()}
        numbers = [i for i, parts in enumerate(questions) if is_nominated_at[len(parts)]]
        if texts := [part for i in numbers for part in questions[i] if isinstance(part, str)]:
            self.encode(texts)
        return numbers

    def _together(self, numbers: Iterable[int]) -> Iterator[list[int]]:
        """As many questions at a time as may be scored at once."""
        left = list(numbers)
        most = max(1, _SCORES_AT_ONCE // max(1, len(self.videos().video_ids))) if left else 1
        for start in range(0, len(left), most):
            yield left[start : start + most]

    def _nominated_moments(
        self, parts: tuple[Part, ...], choice: MomentChoice, method: Method, allowed: Set[str] | None
    ) -> MomentHits:
        """Moments among the candidates of the vector index."""
        (side,) = self.sides
        query = part_vectors(parts, side)
        found = candidates(side.vectors, query[0], choice.top_k, method, allowed)
        if found is None:
            return MomentHits(_said(parts), [], exact=True)
        scores = method.score([query], [ExactRanker(found.vectors)])[0]
        (ranked,) = self._moments_of(found.vectors, query, found.vectors.videos().video_ids, scores[None], choice)
        return MomentHits(_said(parts), ranked, exact=found.complete, vector=query[0])

    def _ranked_moments(
        self, questions: Sequence[tuple[Part, ...]], choice: MomentChoice, method: Method, allowed: Set[str] | None
    ) -> list[MomentHits]:
        """Moments among those of all videos."""
        values, pointers = self._scored(questions, method, allowed)
        ranked = self._moments_of(self.side.vectors, pointers, self.videos().video_ids, values, choice)
        return [
            MomentHits(_said(parts), hits, exact=True, vector=pointer)
            for parts, hits, pointer in zip(questions, ranked, pointers, strict=True)
        ]

    def _moments_of(
        self,
        vectors: VectorSource,
        pointers: NDArray[np.float32],
        ids: Sequence[str],
        scores: NDArray[np.float32],
        choice: MomentChoice,
    ) -> list[list[MomentHit]]:
        """For every query (Q, D) its moments in those of the videos (V ids) that it has finite scores (Q, V) for."""
        alike: dict[bytes, list[int]] = {}
        for q, row in enumerate(np.isfinite(scores)):
            alike.setdefault(row.tobytes(), []).append(q)
        found: list[list[MomentHit]] = [[] for _ in scores]
        for queries in alike.values():
            usable = np.flatnonzero(np.isfinite(scores[queries[0]]))
            some = [ids[v] for v in usable.tolist()]
            ranked = self._rank_moments(vectors, pointers[queries], some, choice)
            for q, moments_of_one in zip(queries, ranked, strict=True):
                found[q] = list(self._moment_hits(moments_of_one, some, scores[q, usable]))
        return found

    def rank_moments(
        self, texts: Sequence[str], choice: MomentChoice, granularity: str | None = None
    ) -> list[RankedMoments]:
        """The best moments of all videos for every text, at the finest granularity there is or the one named; `video`
        is a number of `videos()`."""
        ids = self.videos().video_ids
        return self._rank_moments(self.side.vectors, self.encode(texts), ids, choice, granularity)

    def moments_in(self, video_id: str, vector: NDArray[np.float32], choice: MomentChoice) -> RankedMoments:
        """The best moments of one video for a vector (D,) that tells where they are."""
        (ranked,) = self._rank_moments(self.side.vectors, vector[None], [video_id], choice)
        return ranked

    def _rank_moments(
        self,
        vectors: VectorSource,
        queries: NDArray[np.float32],
        ids: Sequence[str],
        choice: MomentChoice,
        granularity: str | None = None,
    ) -> list[RankedMoments]:
        spec = self.side.index.spec
        granularity = granularity or finest(spec)
        check_granularity(granularity, spec.cells, self.side.index.uri)
        return rank_moments(vectors, queries, ids, choice, granularity=granularity, rule=self.rule)

    def _moment_hits(
        self, ranked: RankedMoments, ids: Sequence[str], scores: NDArray[np.float32]
    ) -> Iterator[MomentHit]:
        of = ranked.video.tolist()
        uris = self.side.snapshot.uris([ids[v] for v in of])
        spans = zip(ranked.score.tolist(), ranked.start_s.tolist(), ranked.end_s.tolist(), strict=True)
        for v, uri, (score, start, end) in zip(of, uris, spans, strict=True):
            yield MomentHit(ids[v], score, start, end, uri, float(scores[v]))

    def search_vector(
        self, query: NDArray[np.float32], top_k: int = 10, method: Method | None = None, *, where: Where | None = None
    ) -> Hits:
        """`search` by an L2-normalised embedding (D,) through the vector index. Raises NoIndexError when there is
        none."""
        method = self.checked(method)
        self.is_nominated((), method, False)
        allowed = None if where is None else self.select(where)
        return self._nominated_by("", query, top_k, method, allowed)

    def moments(
        self, texts: Sequence[str], wanted: Sequence[tuple[int, str]], granularity: str | None = None
    ) -> NDArray[np.float64]:
        """(n, 2) start and end of every wanted (number of a text, video_id), at the finest granularity there is or the
        one named."""
        side = self.side
        granularity = granularity or finest(side.index.spec)
        check_granularity(granularity, side.index.spec.cells, side.index.uri)
        return moments(side.vectors, side.texts.encode(texts), wanted, granularity=granularity, rule=self.rule)

    def checked(self, method: Method | None) -> Method:
        """The method, or the default one. Raises QueryError for one that these indexes cannot be ranked with."""
        method = method or self.default
        if method.n_indexes != len(self.sides):
            raise QueryError(f"{method.name} ranks with {method.n_indexes} indexes, and {len(self.sides)} given")
        method.check([side.index.spec for side in self.sides], [side.index.uri for side in self.sides])
        return method

    def _checked(self, asked: Asked, top_k: int) -> tuple[Part, ...]:
        if top_k < 1:
            raise QueryError(f"top-k {top_k}: choose 1 or more")
        parts = parts_of(asked)
        for part in parts:
            if isinstance(part, str):
                check_query(part)
        return parts

    def is_nominated(self, parts: Sequence[Part], method: Method, exact: bool | None) -> bool:
        """Whether the vector index names the candidates. Raises NoIndexError or QueryError where it should (exact
        False) and cannot."""
        if len(self.sides) == 1 and len(parts) < 2 and self._listed is None:
            return is_nominated(self.sides[0].vectors, method, exact)
        if exact is False:
            several = (
                "several parts of a query together compare" if len(parts) > 1 else "a search of some videos compares"
            )
            what = "a hybrid compares" if len(self.sides) > 1 else several
            raise QueryError(f"{what} every video: no use for the vector index")
        return False

    def _scored(
        self, questions: Sequence[tuple[Part, ...]], method: Method, allowed: Set[str] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """((Q, V) scores, minus infinity where a video is not allowed; (Q, D) what points to moments)."""
        among = None
        if allowed is not None:
            among = np.array([video_id in allowed for video_id in self.videos().video_ids], dtype=bool)
        parts = [part for question in questions for part in question]
        vectors = [part_vectors(parts, side) for side in self.sides]
        values = self.score_vectors(vectors, method, among=among)
        if len(parts) > len(questions):
            ends = np.cumsum([len(question) for question in questions])[:-1]
            of_questions = zip(np.split(values, ends), np.split(vectors[self.pointer], ends), strict=True)
            scores, pointing = zip(*(fused(*one) for one in of_questions), strict=True)
            values, pointers = np.stack(scores), np.stack(pointing)
        else:
            pointers = vectors[self.pointer]
        if among is not None:
            values[:, ~among] = -np.inf
        return values, pointers

    def _ranked(
        self, questions: Sequence[tuple[Part, ...]], top_k: int, method: Method, allowed: Set[str] | None
    ) -> list[Hits]:
        """Hits among all videos."""
        ids = self.videos().video_ids
        values, pointers = self._scored(questions, method, allowed)
        order = best_first(values, top_k).tolist()
        best = [[v for v in row if np.isfinite(values[q, v])] for q, row in enumerate(order)]
        wanted = [(q, ids[v]) for q, row in enumerate(best) for v in row]
        spans = moments(self.side.vectors, pointers, wanted, granularity=finest(self.side.index.spec), rule=self.rule)
        found = self._hits([ids[v] for row in best for v in row], [values[q, row] for q, row in enumerate(best)], spans)
        return [
            Hits(_said(parts), itertools.islice(found, len(row)), exact=True, vector=pointer)
            for parts, row, pointer in zip(questions, best, pointers, strict=True)
        ]

    def _nominated(self, parts: tuple[Part, ...], top_k: int, method: Method, allowed: Set[str] | None) -> Hits:
        return self._nominated_by(_said(parts), part_vectors(parts, self.side)[0], top_k, method, allowed)

    def _nominated_by(
        self, text: str, query: NDArray[np.float32], top_k: int, method: Method, allowed: Set[str] | None
    ) -> Hits:
        """Hits of one query among the candidates of the vector index."""
        (side,) = self.sides
        found = candidates(side.vectors, query, top_k, method, allowed)
        if found is None:
            return Hits(text, [], exact=True)
        ids = found.vectors.videos().video_ids
        values = method.score([query[None, :]], [ExactRanker(found.vectors)])
        best = [v for v in best_first(values, top_k)[0].tolist() if np.isfinite(values[0, v])]
        granularity = finest(side.index.spec)
        wanted = [(0, ids[v]) for v in best]
        spans = moments(found.vectors, query[None, :], wanted, granularity=granularity, rule=self.rule)
        hits = self._hits([ids[v] for v in best], [values[0, best]], spans)
        return Hits(text, hits, exact=found.complete, vector=query)

    def _hits(
        self, ids: Sequence[str], scores: Sequence[NDArray[np.float32]], spans: NDArray[np.float64]
    ) -> Iterator[Hit]:
        """Of videos, their scores and their moments (n, 2), one query after another."""
        uris = self.side.snapshot.uris(ids)
        values = np.concatenate(scores).tolist()
        for video_id, score, (start, end), uri in zip(ids, values, spans.tolist(), uris, strict=True):
            yield Hit(video_id, score, start, end, uri)


def best_first(values: NDArray[np.float32], top_k: int) -> NDArray[np.int64]:
    """(Q, min(top_k, V)) videos by falling score; equal scores keep the order of video ids."""
    n_videos = values.shape[1]
    if top_k >= n_videos:
        return np.argsort(-values, axis=1, kind="stable")
    # Everything that scores at least as the k-th best, so that ties at the border are broken by order too.
    least = -np.partition(-values, top_k - 1, axis=1)[:, top_k - 1]
    order = np.empty((len(values), top_k), np.int64)
    for q, row in enumerate(values):
        some = np.flatnonzero(row >= least[q])
        order[q] = some[np.argsort(-row[some], kind="stable")][:top_k]
    return order


def _seconds_a_unit(side: Side) -> float:
    """How much time the finest unit of an index covers, on average over its videos where it was sampled at keyframes;
    infinite for features of videos of given durations."""
    spec = side.index.spec
    units = spec.frames_per_super_image if spec.cells else 1
    if spec.sampling == "keyframes":
        videos = side.vectors.videos()
        return float(videos.durations_s.sum() / videos.n_super_images.sum()) / units
    return spec.frames_per_super_image / spec.fps / units if spec.fps else math.inf


def _said(parts: Sequence[Part]) -> str:
    """What was asked for, in words."""
    return ", ".join(map(str, parts))
