"""Picks example queries and gathers what the report shows of them: thumbnails, attention, moments."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.evaluation.evaluate import Evaluation
from qasir.evaluation.query import Query
from qasir.evaluation.report.evaluation_charts import Span, timeline
from qasir.index.snapshot import Snapshot
from qasir.retrieval.methods.method import Method
from qasir.retrieval.searcher import Searcher, best_first

_EXAMPLES_EACH = 4
_VIDEOS_SHOWN = 3
_IMAGES_SHOWN = 6


@dataclass(frozen=True)
class ShownImage:
    """One super image: its JPEG as a data URI (None when not stored), and light over each cell, 0 (dark) to 1."""

    picture: str | None
    start_s: float
    end_s: float
    weight: float
    light: list[float]
    is_peak: bool


@dataclass(frozen=True)
class ShownVideo:
    """One ranked video of an example."""

    rank: int
    video_id: str
    score: float
    is_true: bool
    images: list[ShownImage]
    n_hidden: int
    line: str


@dataclass(frozen=True)
class Example:
    """A query with its first videos, and the best right one behind them if none is among them."""

    query: Query
    rank: int
    videos: list[ShownVideo]


def pick(evaluation: Evaluation) -> tuple[list[int], list[int]]:
    """Queries answered right (rank 1) and wrong, spread over the file by a fixed seed."""
    rank = evaluation.rank[: len(evaluation.queries)]
    generator = np.random.default_rng(0)
    chosen = []
    for which in (np.flatnonzero(rank == 1), np.flatnonzero(rank > 1)):
        some = generator.permutation(which)
        videos: set[str] = set()
        kept = []
        for q in some.tolist():
            if evaluation.queries[q].video_id not in videos:
                kept.append(q)
                videos.add(evaluation.queries[q].video_id)
        chosen.append(kept[:_EXAMPLES_EACH])
    return chosen[0], chosen[1]


def example(evaluation: Evaluation, searcher: Searcher, query: int) -> Example:
    asked = evaluation.queries[query]
    order = best_first(evaluation.values[query : query + 1], len(searcher.videos().video_ids))[0].tolist()
    right = {searcher.videos().place[video_id] for video_id in asked.video_ids}
    shown = order[:_VIDEOS_SHOWN]
    if right.isdisjoint(shown):
        shown.append(next(v for v in order if v in right))
    scored = {v: float(evaluation.values[query, v]) for v in shown}
    videos = [_video(searcher, evaluation.method, asked, v, order.index(v) + 1, scored[v]) for v in shown]
    return Example(asked, int(evaluation.rank[query]), videos)


def _video(searcher: Searcher, method: Method, asked: Query, video: int, rank: int, score: float) -> ShownVideo:
    video_id = searcher.videos().video_ids[video]
    side = searcher.side
    text = side.texts.encode([asked.text])[0]
    table = side.vectors.load("super-image", [video_id]).covering([video_id])
    similarity = table.features.vectors @ text
    if len(table.features.unusable):
        similarity = weights = np.zeros(1, np.float32)
    else:
        weights = method.attention(similarity, searcher.pointer)
    spans = [
        Span(start, end, float(w / max(weights.max(), 1e-9)))
        for start, end, w in zip(table.start_s.tolist(), table.end_s.tolist(), weights, strict=True)
    ]
    start, end = searcher.moments([asked.text], [(0, video_id)])[0].tolist()
    true = [Span(*moment) for moment in asked.moments] if video_id == asked.video_id else []
    peak = int(similarity.argmax())
    shown = sorted({peak, *np.argsort(-weights, kind="stable")[:_IMAGES_SHOWN].tolist()})[:_IMAGES_SHOWN]
    return ShownVideo(
        rank=rank,
        video_id=video_id,
        score=score,
        is_true=video_id in asked.video_ids,
        images=_images(
            side.snapshot,
            video_id,
            text,
            {float(table.start_s[i]): float(weights[i]) for i in shown},
            float(table.start_s[peak]),
        ),
        n_hidden=len(weights) - len(shown),
        line=timeline(float(searcher.videos().durations_s[video]), spans, Span(start, end), true),
    )


def cell_light(text: NDArray[np.float32], cells: NDArray[np.float32], n_valid: int) -> list[float]:
    """How well each cell fits the query, from 0 (worst of the filled ones) to 1 (best); blank cells, and those that are
    not finite, get 0."""
    similarity = cells[:n_valid] @ text
    finite = np.isfinite(similarity)
    similarity = np.where(finite, similarity, similarity[finite].min() if finite.any() else 0.0)
    spread = float(similarity.max() - similarity.min())
    light = (similarity - similarity.min()) / spread if spread > 0 else np.ones(n_valid)
    return [*light.astype(float).tolist(), *([0.0] * (len(cells) - n_valid))]


def _images(
    snapshot: Snapshot, video_id: str, text: NDArray[np.float32], weights: Mapping[float, float], peak_s: float
) -> list[ShownImage]:
    """The super images that start at the times of weights, in order of time."""
    spec = snapshot.spec
    stored = [name for name, there in (("cell_embeddings", spec.cells), ("thumbnail", spec.thumbnails)) if there]
    rows = snapshot.super_images(["start_s", "end_s", "n_valid", *stored], video_ids=[video_id])
    out = []
    for row in rows.filter(pc.is_in(rows["start_s"], pa.array(list(weights), pa.float64()))).to_pylist():
        light = []
        if spec.cells:
            cells = np.array(row["cell_embeddings"], np.float32).reshape(spec.grid**2, spec.embedding_dim)
            light = cell_light(text, cells, row["n_valid"])
        out.append(
            ShownImage(
                picture=data_uri(row["thumbnail"]) if spec.thumbnails else None,
                start_s=row["start_s"],
                end_s=row["end_s"],
                weight=weights[row["start_s"]],
                light=light,
                is_peak=row["start_s"] == peak_s,
            )
        )
    return out


def data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
