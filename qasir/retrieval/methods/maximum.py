"""Max pooling: score = max_i c_i."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qasir.retrieval.methods.pooled import Pooled

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Max(Pooled):
    """The super image that fits best counts alone."""

    name = "max"

    def weights(self, similarity: "Tensor", padding: "Tensor | None") -> "Tensor":
        return similarity.new_zeros(similarity.shape).scatter_(1, similarity.argmax(dim=1, keepdim=True), 1.0)

    def pool(
        self, similarity: "Tensor", images: "Tensor", padding: "Tensor | None" = None, gate: "Tensor | None" = None
    ) -> "Tensor":
        return similarity.amax(dim=1)

    def sentence(self) -> str:
        return "its best super image"
