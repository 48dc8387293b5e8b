"""Evaluates retrieval on a query file: who was found at which rank, with intervals, and the rankings behind it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.annotations import Query
from qasir.errors import QueryError
from qasir.metrics import DEFAULT_MV_EDGES, RECALL_AT, Bin, bootstrap, by_moment_ratio, check_edges, ranks, summarise
from qasir.scoring import Scores, Scoring
from qasir.search import IndexSearcher, best_first
from qasir.tables import FAILED

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
    """The result. `queries[i]` is answered by row i of `scores`; `rank` also holds the misses, which have no row."""

    queries: list[Query]
    missed: list[Query]
    scores: Scores
    rank: NDArray[np.int64]
    n_videos: int
    skipped: dict[str, int]
    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    by_mv: list[Bin]
    spec: dict[str, Any]
    scoring: Scoring
    missing: Missing
    seconds: float

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
            "metrics": self.metrics,
            "ci95": {name: list(bounds) for name, bounds in self.ci95.items()},
            "by_mv": [asdict(bin_) for bin_ in self.by_mv],
            "saturated": self.saturated,
            "spec": self.spec,
            "scoring": {**asdict(self.scoring), "missing": self.missing},
            "seconds": self.seconds,
        }


def evaluate(
    searcher: IndexSearcher,
    queries: Sequence[Query],
    scoring: Scoring,
    *,
    missing: Missing = "skip",
    mv_edges: Sequence[float] = DEFAULT_MV_EDGES,
) -> Evaluation:
    """Rank every video for every query and summarise.

    Queries whose video is absent or failed are counted; with "miss" they also score as misses, at a rank past every video
    and every K. Raises QueryError when no query can be scored.
    """
    started = time.monotonic()
    check_edges(mv_edges)
    if missing not in MISSING_RULES:
        raise QueryError(f"missing {missing!r}: choose one of {', '.join(MISSING_RULES)}")
    images = searcher.images
    place = {video_id: v for v, video_id in enumerate(images.video_ids)}
    found = [query for query in queries if query.video_id in place]
    lost = [query for query in queries if query.video_id not in place]
    states = searcher.index.states()
    failed = sum(1 for q in lost if q.video_id in states and states[q.video_id].status == FAILED)
    if not found:
        raise QueryError(f"none of the {len(queries)} queries is about a video in the index at {searcher.index.uri}")
    scores = searcher.score([query.text for query in found], scoring)
    target = np.array([place[query.video_id] for query in found])
    rank = ranks(scores.values, target[:, None] == np.arange(images.n_videos)[None, :])
    missed = lost if missing == "miss" else []
    rank = np.concatenate([rank, np.full(len(missed), max(images.n_videos, max(RECALL_AT)) + 1)])
    counted = [*found, *missed]
    durations = [images.durations_s[place[q.video_id]] if q.video_id in place else None for q in counted]
    ratio = np.array([query.moment_ratio(d) for query, d in zip(counted, durations, strict=True)])
    return Evaluation(
        queries=found,
        missed=missed,
        scores=scores,
        rank=rank,
        n_videos=images.n_videos,
        skipped={"not_in_index": len(lost) - failed, "failed_video": failed},
        metrics=summarise(rank),
        ci95=bootstrap(rank, [query.video_id for query in counted]),
        by_mv=by_moment_ratio(rank, ratio, mv_edges),
        spec=asdict(searcher.index.spec),
        scoring=scoring,
        missing=missing,
        seconds=time.monotonic() - started,
    )


def rankings_table(evaluation: Evaluation, searcher: IndexSearcher) -> pa.Table:
    """The best RANKED videos of every scored query, one row each, with the moment that fits best."""
    scores, images = evaluation.scores, searcher.images
    order = best_first(scores.values, RANKED)
    n, k = order.shape
    rows = np.arange(n)[:, None]
    peaks = scores.peaks[rows, order].ravel()
    video_ids = np.array(images.video_ids, dtype=object)
    return pa.table(
        {
            "query_id": np.repeat(np.array([q.query_id for q in evaluation.queries], dtype=object), k),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n),
            "video_id": video_ids[order.ravel()],
            "score": scores.values[rows, order].ravel(),
            "start_s": images.start_s[peaks],
            "end_s": images.end_s[peaks],
        },
        schema=RANKINGS_SCHEMA,
    )
