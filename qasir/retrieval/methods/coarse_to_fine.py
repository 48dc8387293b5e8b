"""Coarse-to-fine retrieval (EERCF, AAAI 2024): recall by a coarse vector, re-rank only what was recalled by finer ones.

    0.5 S_video + 0.8 S_super-image-weighted + 0.2 S_super-image-TIB + 0.2 S_cell-weighted

with S_video = q.v, "weighted" sum_j softmax(c / 0.01)_j c_j, and TIB the text-gated interaction. The paper's frames are
super images here and its patches cells. Its published code computes every granularity for every pair; here the fine
vectors of videos that were not recalled are never touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.options import Doc
from qasir.retrieval.granularity import GRANULARITIES, check_granularity
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.method import Method, Queries, Stored
from qasir.retrieval.methods.stages import Second, recalled, second_stage
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.methods.weighted import Weighted
from qasir.retrieval.ranker import Ranker, scored
from qasir.retrieval.vectors import Features

RECALLS = ("video", "super-image")
WEIGHTED = Weighted(0.01)
_VIDEO_WEIGHT, _WEIGHTED, _TIB, _CELL = 0.5, 0.8, 0.2, 0.2


@dataclass(frozen=True)
class CoarseToFine(Method):
    """recall: what the first stage compares, a video's mean vector or its best super image; recall_k: how many videos
    go on; rerank: granularities of the second stage; gate_temperature: of its text-gated interaction."""

    name = "coarse-to-fine"
    kind = "two-stage"

    recall: Annotated[str, Doc("Recall by video or super-image.")] = "video"
    recall_k: Annotated[int, Doc("How many videos are recalled.")] = 50
    rerank: Annotated[tuple[str, ...], Doc("super-image, cell or both with a comma.")] = ("super-image",)
    gate_temperature: Annotated[float, Doc("Of the text-gated interaction.")] = TextGated.gate_temperature

    def __post_init__(self) -> None:
        if self.recall not in RECALLS:
            raise QueryError(f"recall {self.recall!r}: choose one of {', '.join(RECALLS)}")
        if self.recall_k < 1:
            raise QueryError(f"recall-k {self.recall_k}: choose 1 or more")
        wrong = [name for name in self.rerank if name not in GRANULARITIES]
        if wrong or not self.rerank:
            raise QueryError(f"rerank {','.join(self.rerank)!r}: choose from {', '.join(GRANULARITIES)}")
        self._gated()

    def score(
        self, queries: Queries, rankers: Sequence[Ranker], among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        (some,), (ranker,) = queries, rankers
        coarse = self._coarse(some, ranker)
        chosen = [recalled(row, self.recall_k, among) for row in coarse]
        videos = ranker.video_vectors()

        def fine(second: Second) -> NDArray[np.float32]:
            vectors = {name: second.features(name) for name in self.rerank}
            return self.fine_scores(second.of(some), videos[second.videos], vectors)

        return second_stage(coarse, chosen, ranker, self.rerank, fine)

    def fine_scores(
        self, queries: NDArray[np.float32], videos: NDArray[np.float32], fine: Mapping[str, Features]
    ) -> NDArray[np.float32]:
        """(Q, V) scores of the second stage: queries (Q, D), videos (V, D), and for each granularity the same V videos'
        vectors."""
        total = _VIDEO_WEIGHT * scored(queries, Features.single(videos), [Max()])[0]
        if "super-image" in self.rerank:
            by_weight, by_gate = scored(queries, fine["super-image"], [WEIGHTED, self._gated()])
            total += _WEIGHTED * by_weight + _TIB * by_gate
        if "cell" in self.rerank:
            total += _CELL * scored(queries, fine["cell"], [WEIGHTED])[0]
        return total

    def _coarse(self, queries: NDArray[np.float32], ranker: Ranker) -> NDArray[np.float32]:
        if self.recall == "video":
            return scored(queries, Features.single(ranker.video_vectors()), [Max()])[0]
        return ranker.pooled(queries, [Max()])[0]

    def _gated(self) -> TextGated:
        return TextGated(self.gate_temperature)

    def useless(self) -> set[str]:
        """Cells are not gated."""
        return set() if "super-image" in self.rerank else {"gate_temperature"}

    def is_exact(self) -> bool:
        return False

    def is_staged(self) -> bool:
        return True

    def nominates(self) -> bool:
        return self.recall == "super-image"

    def recalls(self) -> int | None:
        return self.recall_k

    def check(self, specs: Sequence[Stored], uris: Sequence[str]) -> None:
        for granularity in self.rerank:
            check_granularity(granularity, specs[0].cells, uris[0])

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "rerank": list(self.rerank)}

    def attention(self, similarity: NDArray[np.float32], side: int = 0) -> NDArray[np.float32]:
        return self._gated().attention(similarity)

    def sentence(self) -> str:
        what = "mean vector" if self.recall == "video" else "best super image"
        return f"its {what}, and the first {self.recall_k} again by {' and '.join(self.rerank)}"
