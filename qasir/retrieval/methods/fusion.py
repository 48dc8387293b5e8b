"""Hybrid QASIR by fusion (arXiv 2312.00414): score = w * z(score_large) + (1 - w) * z(score_small), z standardising
each query's scores over the videos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.options import Doc
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.hybrid import Hybrid
from qasir.retrieval.methods.method import Method, Queries
from qasir.retrieval.ranker import Ranker

WEIGHTS = tuple(round(float(w), 2) for w in np.arange(0.05, 1.0, 0.05))


@dataclass(frozen=True)
class Fusion(Hybrid):
    """weight: of the large model's standardised scores, 0 to 1."""

    name = "fusion"

    weight: Annotated[float, Doc("Of the first index's scores, 0 to 1.")] = 0.5
    large: Method = field(default_factory=Attention)
    small: Method = field(default_factory=Attention)

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise QueryError(f"weight {self.weight:g}: choose a number from 0 (small model) to 1 (large model)")

    def score(
        self, queries: Queries, rankers: Sequence[Ranker], among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        return self._weighted(*self._standardised(queries, rankers, among))

    def score_each(
        self, methods: Sequence[Self], queries: Queries, rankers: Sequence[Ranker]
    ) -> Iterator[NDArray[np.float32]]:
        sides = self._standardised(queries, rankers)
        return (method._weighted(*sides) for method in methods)

    def _standardised(
        self, queries: Queries, rankers: Sequence[Ranker], among: NDArray[np.bool_] | None = None
    ) -> list[NDArray[np.float32]]:
        """Each side's scores, over the videos that both can use."""
        scores = [
            side.score([some], [ranker], among)
            for side, some, ranker in zip(self.sides(), queries, rankers, strict=True)
        ]
        usable = np.all([np.isfinite(values) for values in scores], axis=0)
        return [standardised(np.where(usable, values, -np.inf)) for values in scores]

    def _weighted(self, large: NDArray[np.float32], small: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [(self.weight, large), (1.0 - self.weight, small)]
        return np.sum([w * values for w, values in parts if w], axis=0, dtype=np.float32)  # 0 times infinity is NaN

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        return {"weight": WEIGHTS}

    def sentence(self) -> str:
        return (
            f"two models: {self.weight:g} of the large one's standardised score, {1 - self.weight:g} of the small one's"
        )


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row (a query's scores) to mean 0 and population standard deviation 1; a constant row becomes 0. Videos that
    score minus infinity have no part in either, and keep it."""
    finite = np.isfinite(values)
    counted = finite | ~finite.any(axis=1, keepdims=True)
    values = np.where(finite, values, 0.0)
    centred = values - values.mean(axis=1, keepdims=True, where=counted)
    deviation = values.std(axis=1, keepdims=True, where=counted)
    # Of a constant row, what rounding leaves is not a deviation.
    flat = deviation <= 1e-6 * np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-30)
    standard = np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))
    return np.where(finite, standard, -np.inf).astype(np.float32)
