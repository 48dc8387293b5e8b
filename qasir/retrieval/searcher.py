"""Finds moments by text: in one index, exactly, coarse to fine or through its vector index."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from qasir.errors import NoIndexError, QueryError
from qasir.index.index import Index
from qasir.index.snapshot import Snapshot
from qasir.retrieval import vector_index
from qasir.retrieval.checkpoint import Checkpoint, load_checkpoint
from qasir.retrieval.coarse_to_fine import CoarseToFine, fine_scores, ranked_below, recalled
from qasir.retrieval.moments import MomentRule, finest, moments
from qasir.retrieval.scoring import Scoring, score
from qasir.retrieval.tuned import TunedVectors, text_side
from qasir.retrieval.vector_source import FeatureTable, StoredVectors, VectorSource, VideoTable, check_granularity
from qasir.retrieval.vectors import Features
from qasir.vlm.model import Vlm, check_query, resolve

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)

_SCORES_AT_ONCE = 1 << 26
"""Scores (queries times videos) held at once by a search; 256 MiB."""
_QUERIES_TOGETHER = 64
"""Queries whose recalled videos are read together."""
_FEW_VIDEOS = 1000
"""A filter that leaves no more is answered by scoring them all."""

HITS_SCHEMA = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Hit:
    """A video, its score, and its best moment in seconds: the span around the attention peak."""

    video_id: str
    score: float
    start_s: float
    end_s: float


class Hits(list[Hit]):
    """The hits of one query, best first. exact: False when candidates came from the vector index, which may miss some."""

    def __init__(self, query: str, hits: Sequence[Hit], *, exact: bool) -> None:
        super().__init__(hits)
        self.query = query
        self.exact = exact

    def to_arrow(self) -> pa.Table:
        """A row a hit, as `HITS_SCHEMA`."""
        rows = [{"query": self.query, "rank": i, **vars(hit)} for i, hit in enumerate(self, start=1)]
        return pa.Table.from_pylist(rows, schema=HITS_SCHEMA)

    def to_pandas(self) -> "pandas.DataFrame":
        return self.to_arrow().to_pandas()


class ManyHits(list[Hits]):
    """The hits of many queries, in the order asked."""

    def to_arrow(self) -> pa.Table:
        """A row a hit, as `HITS_SCHEMA`."""
        return pa.concat_tables([HITS_SCHEMA.empty_table(), *(hits.to_arrow() for hits in self)])

    def to_pandas(self) -> "pandas.DataFrame":
        return self.to_arrow().to_pandas()


Method = TypeVar("Method")
Scorer = Callable[[NDArray[np.float32], Scoring], NDArray[np.float32]]
"""Scores queries (Q, D) against every video of an index, (Q, V), somewhere else than in this process."""


class Searcher(ABC, Generic[Method]):
    """Scores texts against videos and points to moments; what searching and evaluating need of an index or of two."""

    video_ids: list[str]
    durations_s: NDArray[np.float64]
    default: Method

    @property
    @abstractmethod
    def pointer(self) -> "IndexSearcher":
        """The index whose super images and cells say where a moment is."""

    @abstractmethod
    def score(
        self, texts: Sequence[str], method: Method | None = None, *, among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """(n, V) scores of every text (repeats included) against every video of `video_ids`.

        among (V,): the videos that count, when not all do; a first stage recalls only those. Scores of others mean nothing.
        """

    def select(self, where: str) -> set[str]:
        """Ids that a SQL filter over `videos` picks."""
        return self.pointer.snapshot.select(where)

    def search(
        self, text: str, top_k: int = 10, method: Method | None = None, *, where: str | None = None, **options: Any
    ) -> Hits:
        """The `top_k` best videos, best first; fewer when the corpus, or what the filter leaves of it, has fewer.

        where: any SQL over the columns of `videos`, such as "duration_s > 60".
        """
        return self.search_many([text], top_k, method, where=where, **options)[0]

    def search_many(
        self, texts: Sequence[str], top_k: int = 10, method: Method | None = None, *, where: str | None = None
    ) -> ManyHits:
        """`search` for many texts at once."""
        _check(texts, top_k)
        among = None
        if where is not None:
            allowed = self.select(where)
            among = np.array([video_id in allowed for video_id in self.video_ids], dtype=bool)
        found = ManyHits()
        together = max(1, _SCORES_AT_ONCE // max(1, len(self.video_ids)))
        for start in range(0, len(texts), together):
            some = texts[start : start + together]
            values = self.score(some, method, among=among)
            if among is not None:
                values[:, ~among] = -np.inf
            best = [
                [v for v in row if np.isfinite(values[q, v])]
                for q, row in enumerate(best_first(values, top_k).tolist())
            ]
            pairs = [(q, self.video_ids[v]) for q, row in enumerate(best) for v in row]
            spans = iter(self.moments(some, pairs).tolist())
            for q, (text, row) in enumerate(zip(some, best, strict=True)):
                hits = [Hit(self.video_ids[v], float(values[q, v]), *next(spans)) for v in row]
                found.append(Hits(text, hits, exact=True))
        return found

    def moments(
        self, texts: Sequence[str], wanted: Sequence[tuple[int, str]], granularity: str | None = None
    ) -> NDArray[np.float64]:
        """(n, 2) start and end of every wanted (number of a text, video_id), at the finest granularity there is or the one
        named."""
        return self.pointer.moments_of(texts, wanted, granularity)


class IndexSearcher(Searcher[Scoring | CoarseToFine]):
    """Searches one index as it was when this was opened, through a fine-tuned checkpoint if one is given.

    What a search needs is loaded at the first one and kept: every super image for exact scoring, the videos' vectors for recall
    by video, and nothing for the vector index.
    """

    default = Scoring()

    def __init__(
        self,
        index: Index,
        *,
        version: str | None = None,
        rule: MomentRule | None = None,
        finetuned: Checkpoint | None = None,
    ) -> None:
        self.index = index
        self.snapshot: Snapshot = index.snapshot(version)
        self.vectors: VectorSource = StoredVectors(self.snapshot)
        self.finetuned = finetuned or text_side(index.spec)
        if finetuned is not None:
            finetuned.check(index.spec, index.uri)
            self.vectors = TunedVectors(self.vectors, finetuned)
        if self.finetuned is not None:
            self.default = self.finetuned.recipe.scoring
        self.rule = rule or MomentRule()
        self.scorer: Scorer | None = None
        self._encoded: dict[str, NDArray[np.float32]] = {}

    @property
    def pointer(self) -> "IndexSearcher":
        return self

    def preload(self) -> int:
        """Keep what searches through the vector index read in memory, for many of them; returns about how many bytes that takes."""
        self.snapshot.rows  # noqa: B018  (where each video's rows lie)
        return self.snapshot.preload()

    @cached_property
    def videos(self) -> VideoTable:
        """Every encoded video, with its vector. Raises NoIndexError when there is none."""
        videos = self.vectors.videos()
        if not videos.video_ids:
            raise NoIndexError(f"the index at {self.index.uri} has no encoded videos")
        return videos

    @cached_property
    def images(self) -> FeatureTable:
        """Every readable super image."""
        self.videos  # noqa: B018  (raises when there is none)
        return self.vectors.load()

    @property
    def video_ids(self) -> list[str]:  # type: ignore[override]
        return self.videos.video_ids

    @property
    def durations_s(self) -> NDArray[np.float64]:  # type: ignore[override]
        return self.videos.durations_s

    @cached_property
    def vlm(self) -> Vlm:
        return Vlm(
            resolve(self.index.spec.model, self.index.spec.pretrained or None), image_size=self.index.spec.image_size
        )

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) embeddings of texts; each distinct one is encoded once."""
        for text in texts:
            check_query(text)
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if new:
            vectors = self.vlm.encode_texts(new)
            if self.finetuned is not None:
                vectors = self.finetuned.model.query_vectors(vectors)
            self._encoded.update(zip(new, vectors, strict=True))
        return np.stack([self._encoded[text] for text in texts])

    def forget_texts(self) -> None:
        """Encode every text anew from here on."""
        self._encoded.clear()

    def score(
        self,
        texts: Sequence[str],
        method: Scoring | CoarseToFine | None = None,
        *,
        among: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        return self.score_vectors(self.encode(texts), method, among=among)

    def score_vectors(
        self,
        queries: NDArray[np.float32],
        method: Scoring | CoarseToFine | None = None,
        *,
        among: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """`score` for query embeddings (Q, D), L2-normalised."""
        method = method or self.default
        if isinstance(method, CoarseToFine):
            return self._coarse_to_fine(queries, method, among)
        if method.sparse_grid and self.index.spec.grid != 1:
            raise QueryError(
                f"aggregation {method.aggregation!r} picks single frames: it needs an index of grid 1, and the one at "
                f"{self.index.uri} has grid {self.index.spec.grid}"
            )
        if self.scorer is not None:
            return self.scorer(queries, method)
        return score(queries, self.images.features, method, device=self.device)

    def search_many(
        self,
        texts: Sequence[str],
        top_k: int = 10,
        method: Scoring | CoarseToFine | None = None,
        *,
        where: str | None = None,
        exact: bool | None = None,
    ) -> ManyHits:
        """`search` for many texts at once.

        exact: True compares every video, False only candidates from the vector index; None takes the vector index where
        there is one and the method allows it.
        """
        method = method or self.default
        if not self._is_nominated(method, exact):
            return super().search_many(texts, top_k, method, where=where)
        _check(texts, top_k)
        allowed = None if where is None else self.snapshot.select(where)
        queries = self.encode(texts)
        return ManyHits(
            self._nominated(text, query, top_k, method, allowed) for text, query in zip(texts, queries, strict=True)
        )

    def search_vector(
        self,
        query: NDArray[np.float32],
        top_k: int = 10,
        method: Scoring | CoarseToFine | None = None,
        *,
        where: str | None = None,
    ) -> Hits:
        """`search` by an L2-normalised embedding (D,) through the vector index. Raises NoIndexError when there is none."""
        method = method or self.default
        self._is_nominated(method, False)
        allowed = None if where is None else self.snapshot.select(where)
        return self._nominated("", query, top_k, method, allowed)

    def _is_nominated(self, method: Scoring | CoarseToFine, exact: bool | None) -> bool:
        """Whether candidates come from the vector index. Raises NoIndexError when they should and cannot."""
        if isinstance(method, CoarseToFine):
            usable = method.recall == "super-image"
        else:
            usable = method.aggregation in ("attention", "max", "tib", "weighted")
        if exact or (exact is None and not usable):
            return False
        indexed = self.vectors.is_indexed
        if exact is False and not (usable and indexed):
            why = "cannot answer this method" if indexed else "does not exist: jobs/build_vector_index.py makes it"
            raise NoIndexError(f"the vector index of {self.index.uri} {why}")
        return indexed

    def moments_of(
        self, texts: Sequence[str], wanted: Sequence[tuple[int, str]], granularity: str | None = None
    ) -> NDArray[np.float64]:
        granularity = granularity or finest(self.index.spec)
        check_granularity(granularity, self.snapshot)
        loaded = self.__dict__.get("images")
        return moments(self.vectors, self.encode(texts), wanted, granularity=granularity, rule=self.rule, images=loaded)

    def _nominated(
        self,
        text: str,
        query: NDArray[np.float32],
        top_k: int,
        method: Scoring | CoarseToFine,
        allowed: set[str] | None,
    ) -> Hits:
        """Hits of one query among the candidates of the vector index, completed to whole videos and scored exactly."""
        chosen, complete = self._candidates(query, top_k, method, allowed)
        table = self.vectors.load("super-image", chosen)
        if not table.video_ids:
            return Hits(text, [], exact=complete)
        if isinstance(method, CoarseToFine):
            for granularity in method.rerank:
                check_granularity(granularity, self.snapshot)
            fine = {"super-image": table.features}
            if "cell" in method.rerank:
                fine["cell"] = self.vectors.load("cell", table.video_ids).features
            values = fine_scores(query[None, :], table.features.means, fine, method, device=self.device)
        else:
            values = score(query[None, :], table.features, method, device=self.device)
        best = best_first(values, top_k)[0].tolist()
        wanted = [(0, table.video_ids[v]) for v in best]
        spans = moments(
            self.vectors, query[None, :], wanted, granularity=finest(self.index.spec), rule=self.rule, images=table
        )
        hits = [
            Hit(table.video_ids[v], float(values[0, v]), *span) for v, span in zip(best, spans.tolist(), strict=True)
        ]
        return Hits(text, hits, exact=complete)

    def _candidates(
        self, query: NDArray[np.float32], top_k: int, method: Scoring | CoarseToFine, allowed: set[str] | None
    ) -> tuple[list[str], bool]:
        """(video ids, whether those are all that may be): enough for `top_k`, however few a filter leaves."""
        most = method.recall_k if isinstance(method, CoarseToFine) else None
        probing = vector_index.Probing().for_top(max(top_k, most or 0))
        if allowed is not None and len(allowed) > _FEW_VIDEOS:
            probing = probing.for_share(len(allowed) / len(self.snapshot.rows.video_ids))
        n_rows = len(self.snapshot.rows.row)
        while True:
            # Few videos, or so many candidates that they cost as much: then no need to be nominated.
            if allowed is not None and (len(allowed) <= _FEW_VIDEOS or 4 * probing.candidates > n_rows):
                return sorted(allowed), True
            found = vector_index.nearest(self.snapshot, query, probing)
            if allowed is not None:
                found = [video_id for video_id in found if video_id in allowed]
            if len(found) >= probing.videos or probing.candidates >= n_rows:
                return found[: most or probing.videos], False
            probing = probing.wider()

    def _coarse_to_fine(
        self, queries: NDArray[np.float32], method: CoarseToFine, among: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """(Q, V): recall among all, then fine scores for what was recalled, whose vectors are all that is read."""
        for granularity in method.rerank:
            check_granularity(granularity, self.snapshot)
        by_video = method.recall == "video"
        features = Features.single(self.videos.vectors) if by_video else self.images.features
        coarse = score(queries, features, Scoring("max"), device=self.device)
        values = np.empty_like(coarse)
        for start in range(0, len(queries), _QUERIES_TOGETHER):
            some = range(start, min(start + _QUERIES_TOGETHER, len(queries)))
            chosen = {q: recalled(coarse[q], method.recall_k, among) for q in some}
            fine = self._fine(np.unique(np.concatenate(list(chosen.values()))), method.rerank)
            for q, videos in chosen.items():
                scores = fine_scores(
                    queries[q : q + 1], self.videos.vectors[videos], fine.of(videos), method, device=self.device
                )
                values[q] = ranked_below(coarse[q], videos, scores[0])
        return values

    def _fine(self, videos: NDArray[np.int64], granularities: Sequence[str]) -> "_Fine":
        ids = [self.video_ids[v] for v in videos]
        tables = {name: self.vectors.load(name, ids) for name in granularities}
        return _Fine(videos, {name: table.features for name, table in tables.items()})


@dataclass(frozen=True)
class _Fine:
    """Fine vectors of some videos (sorted numbers), by granularity."""

    videos: NDArray[np.int64]
    features: Mapping[str, Features]

    def of(self, videos: NDArray[np.int64]) -> dict[str, Features]:
        places = np.searchsorted(self.videos, videos)
        return {name: features.take(places) for name, features in self.features.items()}


def open_index(uri: str, *, version: str | None = None, finetuned: str | None = None) -> IndexSearcher:
    """Open an index for searching, at its newest version or at a tag of re-indexing, through a fine-tuned checkpoint's folder
    if one is given (an index that a checkpoint was applied to knows it).

    Raises NoIndexError when there is none at `uri`, or no such version; ModelError for a checkpoint that cannot be read and
    SpecError for one of another encoder spec.
    """
    checkpoint = load_checkpoint(finetuned) if finetuned is not None else None
    return IndexSearcher(Index.open(uri), version=version, finetuned=checkpoint)


def open_tables(uri: str, *, version: str | None = None) -> Snapshot:
    """The tables of an index as they belong together, for analysis. Raises NoIndexError."""
    return Index.open(uri).snapshot(version)


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


def _check(texts: Sequence[str], top_k: int) -> None:
    if top_k < 1:
        raise QueryError(f"top-k {top_k}: choose 1 or more")
    for text in texts:
        check_query(text)
