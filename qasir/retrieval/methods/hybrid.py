"""What ways of combining an expensive model's index and a cheap one's have in common."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qasir.retrieval.methods.method import Method


class Hybrid(Method):
    """Ranks with two indexes of one corpus, the expensive model's first; large and small are how each ranks."""

    kind = "hybrid"
    n_indexes = 2
    large: Method
    small: Method

    def sides(self) -> tuple[Method, ...]:
        return (self.large, self.small)

    def with_sides(self, sides: Sequence[Method]) -> Self:
        large, small = sides
        return replace(self, large=large, small=small)  # type: ignore[type-var]

    def numbers(self) -> dict[str, Any]:
        return {name: value for name, value in super().numbers().items() if name not in ("large", "small")}

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "large": self.large.describe(), "small": self.small.describe()}

    def attention(self, similarity: NDArray[np.float32], side: int = 0) -> NDArray[np.float32]:
        return self.sides()[side].attention(similarity)

    def encodings(self, n_images: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Both models encode every video, since both indexes are there."""
        return [side.encodings([n])[0] for side, n in zip(self.sides(), n_images, strict=True)]
