"""Mean pooling: score = cos(q, sum_i s_i)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.vectors import Features

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mean(Pooled):
    """Every super image counts alike."""

    name = "mean"

    def weights(self, similarity: "Tensor", padding: "Tensor | None") -> "Tensor":
        kept = similarity.new_ones(similarity.shape[:2]) if padding is None else (~padding).to(similarity.dtype)
        return (kept / kept.sum(dim=1, keepdim=True))[:, :, None].expand_as(similarity)

    def nominates(self) -> bool:
        return False

    def rows(self, features: Features) -> Features:
        return Features.single(features.means)

    def sentence(self) -> str:
        return "the mean of its super images"
