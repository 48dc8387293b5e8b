"""Evaluates retrieval on a query file: who was found at which rank, with intervals, and the rankings behind it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.evaluation.cost import Cost, cost
from qasir.evaluation.metrics import (
    DEFAULT_MV_EDGES,
    RECALL_AT,
    Bin,
    bootstrap,
    by_moment_ratio,
    check_edges,
    ranks,
    right_ranks,
    summarise,
)
from qasir.evaluation.moment_metrics import AT, CorpusMoments, Recalls, check_nms, corpus_moments, moment_recalls
from qasir.evaluation.query import Query, apart
from qasir.index.ragged import numbered
from qasir.index.schemas import FAILED
from qasir.retrieval.methods.method import Method
from qasir.retrieval.searcher import Searcher, best_first

Missing = Literal["skip", "miss"]
MISSING_RULES = ("skip", "miss")
RANKED = 100
"""How many videos of each query's ranking are kept."""

RANKINGS_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Evaluation:
    """The result. `queries[i]` is answered by row i of `values` (Q, V); `rank` also holds the misses, which have no
    row. left_out: how many videos a hybrid did not rank, since one of its indexes lacks them. corpus_moments: None
    where that was not asked for."""

    queries: list[Query]
    missed: list[Query]
    values: NDArray[np.float32]
    rank: NDArray[np.int64]
    n_videos: int
    skipped: dict[str, int]
    left_out: int
    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    by_mv: list[Bin]
    moments: Recalls
    corpus_moments: CorpusMoments | None
    cost: Cost
    spec: dict[str, Any]
    method: Method
    missing: Missing
    seconds: float

    @property
    def groups(self) -> list[str]:
        """The video of each entry of `rank`, the first of several right ones."""
        return [query.video_id for query in (*self.queries, *self.missed)]

    @property
    def saturated(self) -> list[str]:
        """Recalls that say nothing, because the corpus has no more videos than K."""
        return [f"R@{k}" for k in RECALL_AT if k >= self.n_videos]

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        return {
            "n_queries": len(self.rank),
            "n_videos": self.n_videos,
            "skipped": self.skipped,
            "left_out": self.left_out,
            "metrics": self.metrics,
            "ci95": {name: list(bounds) for name, bounds in self.ci95.items()},
            "by_mv": [asdict(bin_) for bin_ in self.by_mv],
            "moments": self.moments,
            "corpus_moments": None if self.corpus_moments is None else asdict(self.corpus_moments),
            "gflops": {**asdict(self.cost), "total": self.cost.total},
            "saturated": self.saturated,
            "spec": self.spec,
            "scoring": {**self.method.describe(), "missing": self.missing},
            "seconds": self.seconds,
        }


def rank_queries(
    searcher: Searcher, queries: Sequence[Query], method: Method
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores (Q, V) and ranks (Q,) of queries whose videos are all there."""
    values = searcher.score([query.text for query in queries], method)
    return values, ranks_of(searcher, queries, values)


def ranks_of(searcher: Searcher, queries: Sequence[Query], values: NDArray[np.float32]) -> NDArray[np.int64]:
    """(Q,) ranks of the queries' best right videos by scores (Q, V)."""
    place = searcher.videos().place
    return right_ranks(values, [[place[video_id] for video_id in query.video_ids] for query in queries])


def answerable(searcher: Searcher, queries: Sequence[Query]) -> tuple[list[Query], list[Query]]:
    """(queries with a right video that can be ranked, of which they have only those; the others). Raises QueryError
    when there are none of the first."""
    there = searcher.videos().place
    narrowed = [query.among(there) for query in queries]
    found = [query for query in narrowed if query is not None]
    if not found:
        raise QueryError(
            f"none of the {len(queries)} queries is about a video in the index at {searcher.side.index.uri}: "
            f"{apart(queries, searcher.videos().video_ids)}"
        )
    return found, [query for query, left in zip(queries, narrowed, strict=True) if left is None]


def evaluate(
    searcher: Searcher,
    queries: Sequence[Query],
    method: Method | None = None,
    *,
    missing: Missing = "skip",
    mv_edges: Sequence[float] = DEFAULT_MV_EDGES,
    over_corpus: bool = True,
    nms: float | None = None,
) -> Evaluation:
    """Rank every video for every query and summarise.

    method: one of `qasir.retrieval.methods`; the searcher's default without one. Queries without a right video that can
    be ranked, since it is absent, failed or left out of a hybrid, are counted; with "miss" they also score as misses,
    at a rank past every video and every K.

    over_corpus: rank the moments of all videos too, which does not depend on the method and costs a product of every
    query with a moment and every unit (`corpus_moments`, whose nms it takes).

    Raises QueryError when no query can be scored.
    """
    started = time.monotonic()
    check_edges(mv_edges)
    check_nms(nms)
    if missing not in MISSING_RULES:
        raise QueryError(f"missing {missing!r}: choose one of {', '.join(MISSING_RULES)}")
    method = searcher.checked(method)
    found, lost = answerable(searcher, queries)
    left_out = set(searcher.left_out)
    skipped = _reasons(searcher, lost)
    values, rank = rank_queries(searcher, found, method)
    n_videos = len(searcher.videos().video_ids)
    missed = lost if missing == "miss" else []
    rank = np.concatenate([rank, np.full(len(missed), max(n_videos, max(RECALL_AT)) + 1)])
    counted = [*found, *missed]
    durations = dict(zip(searcher.videos().video_ids, searcher.videos().durations_s.tolist(), strict=True))
    ratio = np.array([query.moment_ratio(durations.get(query.video_id)) for query in counted])
    return Evaluation(
        queries=found,
        missed=missed,
        values=values,
        rank=rank,
        n_videos=n_videos,
        skipped=skipped,
        left_out=len(left_out),
        metrics=summarise(rank),
        ci95=bootstrap(rank, [query.video_id for query in counted]),
        by_mv=by_moment_ratio(rank, ratio, mv_edges),
        moments=moment_recalls(searcher, found, best_first(values, max(AT))),
        corpus_moments=corpus_moments(searcher, found, missed, nms=nms) if over_corpus else None,
        cost=cost(searcher, method, found[0].text),
        spec=asdict(searcher.side.index.spec),
        method=method,
        missing=missing,
        seconds=time.monotonic() - started,
    )


def _reasons(searcher: Searcher, lost: Sequence[Query]) -> dict[str, int]:
    """Why queries cannot be ranked, and how many; of several right videos the best reason counts."""
    left_out, states = set(searcher.left_out), searcher.side.index.states()
    counts = dict.fromkeys(("not_in_index", "failed_video", "left_out"), 0)
    for query in lost:
        known = [states[video_id] for video_id in query.video_ids if video_id in states]
        if any(video_id in left_out for video_id in query.video_ids):
            counts["left_out"] += 1
        elif any(state.status == FAILED for state in known):
            counts["failed_video"] += 1
        else:
            counts["not_in_index"] += 1
    return counts


@dataclass(frozen=True)
class VideoToText:
    """Every video as a query for its texts: rank[i] is where the first of video_ids[i]'s own texts comes among all of
    them."""

    video_ids: list[str]
    queries: list[Query]
    values: NDArray[np.float32]
    rank: NDArray[np.int64]
    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    method: Method
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        return {
            "direction": "video-to-text", "n_queries": len(self.video_ids), "n_texts": len(self.queries),
            "metrics": self.metrics, "ci95": {name: list(bounds) for name, bounds in self.ci95.items()},
            "scoring": self.method.describe(), "left_out": self.left_out,
        }  # fmt: skip

    def rankings(self) -> pa.Table:
        """The best RANKED texts of every video: video_id, rank, query_id, score."""
        order = best_first(self.values, RANKED)
        n, k = order.shape
        ids = np.array([query.query_id for query in self.queries], dtype=object)
        return pa.table(
            {
                "video_id": np.repeat(np.array(self.video_ids, dtype=object), k),
                "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n),
                "query_id": ids[order.ravel()],
                "score": self.values[np.arange(n)[:, None], order].ravel(),
            }
        )


def evaluate_video_to_text(searcher: Searcher, queries: Sequence[Query], method: Method | None = None) -> VideoToText:
    """Rank every text for every video that has one, as the trimmed benchmarks of EERCF and MOF do; ties count against
    us, and of a video's several texts the best placed one counts.

    Raises QueryError when no query is about a video of the index.
    """
    method = searcher.checked(method)
    found, _ = answerable(searcher, queries)
    values = searcher.score([query.text for query in found], method)
    asked = {video_id for query in found for video_id in query.video_ids}
    rows = [v for v, video_id in enumerate(searcher.videos().video_ids) if video_id in asked]
    ids = [searcher.videos().video_ids[v] for v in rows]
    place = numbered(ids)
    own = np.zeros((len(ids), len(found)), dtype=bool)
    for text, query in enumerate(found):
        own[[place[video_id] for video_id in query.video_ids], text] = True
    by_video = np.ascontiguousarray(values[:, rows].T)
    rank = ranks(by_video, own)
    n_left_out = len(searcher.left_out)
    return VideoToText(ids, found, by_video, rank, summarise(rank), bootstrap(rank, ids), method, n_left_out)


def rankings_table(evaluation: Evaluation, searcher: Searcher) -> pa.Table:
    """The best RANKED videos of every scored query, one row each, with the moment that fits best."""
    order = best_first(evaluation.values, RANKED)
    n, k = order.shape
    rows = np.arange(n)[:, None]
    video_ids = np.array(searcher.videos().video_ids, dtype=object)[order.ravel()]
    texts = [query.text for query in evaluation.queries]
    spans = searcher.moments(texts, list(zip(np.repeat(np.arange(n), k).tolist(), video_ids.tolist(), strict=True)))
    return pa.table(
        {
            "query_id": np.repeat(np.array([q.query_id for q in evaluation.queries], dtype=object), k),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n),
            "video_id": video_ids,
            "score": evaluation.values[rows, order].ravel(),
            "start_s": spans[:, 0],
            "end_s": spans[:, 1],
        },
        schema=RANKINGS_SCHEMA,
    )
