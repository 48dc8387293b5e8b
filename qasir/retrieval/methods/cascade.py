"""Hybrid QASIR by cascade (arXiv 2312.00414): the small model ranks the corpus, the large one re-scores its first k
videos only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.options import Doc, Flag
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.hybrid import Hybrid
from qasir.retrieval.methods.method import Method, Queries
from qasir.retrieval.methods.stages import recalled, second_stage
from qasir.retrieval.ranker import Ranker

DEPTHS = (5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Cascade(Hybrid):
    """top_k: how many of the small model's first videos the large one scores; all others lie below them."""

    name = "cascade"

    top_k: Annotated[int, Doc("How many videos the first index scores."), Flag("--cascade-k")] = 50
    large: Method = field(default_factory=Attention)
    small: Method = field(default_factory=Attention)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise QueryError(f"cascade top-k {self.top_k}: choose 1 or more")

    def score(
        self, queries: Queries, rankers: Sequence[Ranker], among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        (large_queries, small_queries), (large, small) = queries, rankers
        coarse = self.small.score([small_queries], [small], among)
        chosen = [recalled(row, self.top_k, among) for row in coarse]
        return second_stage(
            coarse,
            chosen,
            large,
            ("super-image",),
            lambda second: self.large.score([second.of(large_queries)], [second.ranker(large)]),
        )

    def is_staged(self) -> bool:
        return True

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        """The shallowest first, which cost least."""
        return {"top_k": [k for k in DEPTHS if k < n_videos] or [n_videos]}

    def sentence(self) -> str:
        return f"the small model, and the first {self.top_k} again by the large one"
