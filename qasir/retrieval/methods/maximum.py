"""Max pooling: score = max_i c_i."""

from dataclasses import dataclass

import torch
from torch import Tensor

from qasir.retrieval.methods.pooled import Pooled


@dataclass(frozen=True)
class Max(Pooled):
    """The super image that fits best counts alone."""

    name = "max"

    def weights(self, similarity: Tensor, padding: Tensor | None) -> Tensor:
        return torch.zeros_like(similarity).scatter_(1, similarity.argmax(dim=1, keepdim=True), 1.0)

    def pool(
        self, similarity: Tensor, images: Tensor, padding: Tensor | None = None, gate: Tensor | None = None
    ) -> Tensor:
        return similarity.amax(dim=1)

    def sentence(self) -> str:
        return "its best super image"
