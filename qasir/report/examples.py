"""Picks example queries and gathers what the report shows of them: thumbnails, attention, moments."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from qasir.annotations import Query
from qasir.evaluate import Evaluation
from qasir.index import matrix
from qasir.report.charts import Span, timeline
from qasir.scoring import Scoring, attention_weights
from qasir.search import IndexSearcher, best_first

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
    """A query with its first videos, and the true one behind them if it is not among them."""

    query: Query
    rank: int
    videos: list[ShownVideo]


def pick(evaluation: Evaluation, seed: int = 0) -> tuple[list[int], list[int]]:
    """Queries answered right (rank 1) and wrong, spread over the file by a fixed seed."""
    rank = evaluation.rank[: len(evaluation.queries)]
    generator = np.random.default_rng(seed)
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


def example(evaluation: Evaluation, searcher: IndexSearcher, query: int) -> Example:
    asked = evaluation.queries[query]
    images = searcher.images
    text = searcher.vlm.encode_texts([asked.text])[0]
    order = best_first(evaluation.scores.values[query : query + 1], images.n_videos)[0].tolist()
    true = images.video_ids.index(asked.video_id)
    shown = order[:_VIDEOS_SHOWN] + ([true] if true not in order[:_VIDEOS_SHOWN] else [])
    videos = [_video(evaluation, searcher, asked, text, query, v, order.index(v) + 1) for v in shown]
    return Example(asked, int(evaluation.rank[query]), videos)


def _video(
    evaluation: Evaluation,
    searcher: IndexSearcher,
    asked: Query,
    text: NDArray[np.float32],
    query: int,
    video: int,
    rank: int,
) -> ShownVideo:
    images = searcher.images
    low, high = images.offsets[video], images.offsets[video + 1]
    weights = attention(text, images.embeddings[low:high], evaluation.scoring)
    hit = searcher.hit(evaluation.scores, query, video)
    spans = [
        Span(float(images.start_s[low + i]), float(images.end_s[low + i]), float(w / max(weights.max(), 1e-9)))
        for i, w in enumerate(weights)
    ]
    is_true = images.video_ids[video] == asked.video_id
    moments = [Span(*moment) for moment in asked.moments] if is_true else []
    peak = int(evaluation.scores.peaks[query, video] - low)
    shown = sorted({peak, *np.argsort(-weights, kind="stable")[:_IMAGES_SHOWN].tolist()})[:_IMAGES_SHOWN]
    return ShownVideo(
        rank=rank,
        video_id=hit.video_id,
        score=hit.score,
        is_true=is_true,
        images=_images(searcher, hit.video_id, text, weights, shown, peak),
        n_hidden=len(weights) - len(shown),
        line=timeline(float(images.durations_s[video]), spans, Span(hit.start_s, hit.end_s), moments),
    )


def attention(text: NDArray[np.float32], embeddings: NDArray[np.float32], scoring: Scoring) -> NDArray[np.float32]:
    """(M,) weights that the scoring gave one video's super images for one query."""
    similarity = torch.from_numpy(embeddings @ text)[None, :, None]
    valid = torch.ones(1, len(embeddings), dtype=torch.bool)
    return attention_weights(similarity, valid, scoring)[0, :, 0].numpy()


def cell_light(text: NDArray[np.float32], cells: NDArray[np.float32], n_valid: int) -> list[float]:
    """How well each cell fits the query, from 0 (worst of the filled ones) to 1 (best); blank cells get 0."""
    similarity = cells[:n_valid] @ text
    spread = float(similarity.max() - similarity.min())
    light = (similarity - similarity.min()) / spread if spread > 0 else np.ones(n_valid)
    return [*light.astype(float).tolist(), *([0.0] * (len(cells) - n_valid))]


def _images(
    searcher: IndexSearcher, video_id: str, text: NDArray[np.float32], weights: NDArray[np.float32],
    positions: Sequence[int], peak: int,
) -> list[ShownImage]:  # fmt: skip
    spec = searcher.index.spec
    stored = [name for name, there in (("cell_embeddings", spec.cells), ("thumbnail", spec.thumbnails)) if there]
    rows = searcher.index.rows_of([video_id], ["start_s", "end_s", "n_valid", *stored])
    cells = (
        matrix(rows["cell_embeddings"], spec.grid**2 * spec.embedding_dim)
        .astype(np.float32)
        .reshape(len(rows), spec.grid**2, -1)
        if spec.cells
        else None
    )
    out = []
    for i in positions:
        row = rows.slice(i, 1).to_pylist()[0]
        out.append(
            ShownImage(
                picture=data_uri(row["thumbnail"]) if spec.thumbnails else None,
                start_s=row["start_s"],
                end_s=row["end_s"],
                weight=float(weights[i]),
                light=cell_light(text, cells[i], row["n_valid"]) if cells is not None else [],
                is_peak=i == peak,
            )
        )
    return out


def data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
