"""Sparse sampling, what super images are compared with (arXiv 2312.00414): attention over as many single frames as
there would be super images of grid N, ceil(M / N^2) evenly spaced ones of M."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError, SpecError
from qasir.options import Doc
from qasir.retrieval.methods.attention import TEMPERATURES, Attention
from qasir.retrieval.methods.method import Stored, check_temperature
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.vectors import Features, evenly_spaced

if TYPE_CHECKING:
    from torch import Tensor

_MOST_GRID = 99


@dataclass(frozen=True)
class Sparse(Pooled):
    """Single frames at the encoding cost of super images; asked for as sparse:N, over an index of grid 1."""

    name = "sparse"
    argument = "grid"
    kind = "sparse"

    grid: int
    temperature: Annotated[float, Doc("Of the attention.")] = Attention.temperature

    def __post_init__(self) -> None:
        if not 1 <= self.grid <= _MOST_GRID:
            raise SpecError(f"aggregation sparse:{self.grid}: choose N from 1 to {_MOST_GRID}")
        check_temperature("temperature", self.temperature)

    def check(self, specs: Sequence[Stored], uris: Sequence[str]) -> None:
        if specs[0].grid != 1:
            raise QueryError(
                f"aggregation 'sparse:{self.grid}' picks single frames: it needs an index of grid 1, and the one at "
                f"{uris[0]} has grid {specs[0].grid}"
            )

    def weights(self, similarity: "Tensor", padding: "Tensor | None") -> "Tensor":
        return (similarity / self.temperature).softmax(dim=1)

    def nominates(self) -> bool:
        return False

    def rows(self, features: Features) -> Features:
        return features.thinned(self.grid**2)

    def attention(self, similarity: NDArray[np.float32], side: int = 0) -> NDArray[np.float32]:
        rows, _ = evenly_spaced(np.array([len(similarity)]), self.grid**2)
        weights = np.zeros(len(similarity), np.float32)
        weights[rows] = super().attention(similarity[rows])
        return weights

    def sentence(self) -> str:
        return (
            f"query attention over as many single frames as super images of grid {self.grid} would be "
            f"(temperature {self.temperature:g})"
        )

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        return {"temperature": TEMPERATURES}

    def encodings(self, n_images: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        return [-(-n // self.grid**2) for n in n_images]
