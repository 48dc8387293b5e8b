"""Coarse-to-fine retrieval (EERCF, AAAI 2024): recall by a coarse vector, re-rank only what was recalled by finer ones.

    0.5 S_video + 0.8 S_super-image-weighted + 0.2 S_super-image-TIB + 0.2 S_cell-weighted

with S_video = q.v, "weighted" sum_j softmax(c / 0.01)_j c_j, and TIB the text-gated interaction of `qasir.retrieval.scoring`. The paper's
frames are super images here and its patches cells. Its published code computes every granularity for every pair; here the
fine vectors of videos that were not recalled are never touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.retrieval.scoring import DEFAULT_GATE_TEMPERATURE, Scoring, score, score_each
from qasir.retrieval.vector_source import GRANULARITIES
from qasir.retrieval.vectors import Features

RECALLS = ("video", "super-image")
_VIDEO_WEIGHT, _WEIGHTED, _TIB, _CELL = 0.5, 0.8, 0.2, 0.2
WEIGHTED_TEMPERATURE = 0.01
_BELOW = 4.0
"""Subtracted from the coarse score of a video that was not re-ranked, so that it ranks below all that were."""


@dataclass(frozen=True)
class CoarseToFine:
    """recall: what the first stage compares, a video's mean vector or its best super image; recall_k: how many videos go on;
    rerank: granularities of the second stage; gate_temperature: of its text-gated interaction."""

    recall: str = "video"
    recall_k: int = 50
    rerank: tuple[str, ...] = GRANULARITIES
    gate_temperature: float = DEFAULT_GATE_TEMPERATURE

    def __post_init__(self) -> None:
        if self.recall not in RECALLS:
            raise QueryError(f"recall {self.recall!r}: choose one of {', '.join(RECALLS)}")
        if self.recall_k < 1:
            raise QueryError(f"recall-k {self.recall_k}: choose 1 or more")
        wrong = [name for name in self.rerank if name not in GRANULARITIES]
        if wrong or not self.rerank:
            raise QueryError(f"rerank {','.join(self.rerank)!r}: choose from {', '.join(GRANULARITIES)}")
        Scoring("tib", gate_temperature=self.gate_temperature)

    def describe(self) -> dict[str, Any]:
        return {
            "aggregation": "coarse-to-fine", "recall": self.recall, "recall_k": self.recall_k,
            "rerank": list(self.rerank), "gate_temperature": self.gate_temperature,
        }  # fmt: skip


def fine_scores(
    queries: NDArray[np.float32], videos: NDArray[np.float32], fine: Mapping[str, Features], method: CoarseToFine,
    *, device: str = "cpu",
) -> NDArray[np.float32]:  # fmt: skip
    """(Q, V) scores of the second stage: queries (Q, D), videos (V, D), and for each granularity the same V videos' vectors."""
    total = _VIDEO_WEIGHT * score(queries, Features.single(videos), Scoring("max"), device=device)
    weighted = Scoring("weighted", WEIGHTED_TEMPERATURE)
    if "super-image" in method.rerank:
        gated = Scoring("tib", gate_temperature=method.gate_temperature)
        by_weight, by_gate = score_each(queries, fine["super-image"], (weighted, gated), device=device)
        total += _WEIGHTED * by_weight + _TIB * by_gate
    if "cell" in method.rerank:
        (by_cell,) = score_each(queries, fine["cell"], (weighted,), device=device)
        total += _CELL * by_cell
    return total


def recalled(coarse: NDArray[np.float32], k: int, among: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """(at most k,) videos with the highest coarse scores (V,) among those that count, in order of their numbers."""
    if among is not None:
        some = np.flatnonzero(among)
        return some[recalled(coarse[some], k)]
    if k >= len(coarse):
        return np.arange(len(coarse))
    return np.sort(np.argpartition(coarse, -k)[-k:])


def ranked_below(
    coarse: NDArray[np.float32], videos: NDArray[np.int64], fine: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(V,) scores that rank the re-scored videos by `fine` and the others, in coarse order, below them."""
    values = coarse - _BELOW - max(0.0, float(coarse.max()) - float(fine.min()) if len(fine) else 0.0)
    values[videos] = fine
    return values.astype(np.float32)
