"""EERCF's weighted similarity (AAAI 2024): score = sum_i softmax(c / tau)_i c_i."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from qasir.options import Doc
from qasir.retrieval.methods.attention import TEMPERATURES, Attention
from qasir.retrieval.methods.method import check_temperature
from qasir.retrieval.methods.pooled import Pooled

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Weighted(Pooled):
    """The similarities' own softmax weighs them; no vector is summed."""

    name = "weighted"

    temperature: Annotated[float, Doc("Of the weights.")] = Attention.temperature

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)

    def weights(self, similarity: "Tensor", padding: "Tensor | None") -> "Tensor":
        return (similarity / self.temperature).softmax(dim=1)

    def pool(
        self, similarity: "Tensor", images: "Tensor", padding: "Tensor | None" = None, gate: "Tensor | None" = None
    ) -> "Tensor":
        return (similarity * self.weights(similarity, padding)).sum(dim=1)

    def sentence(self) -> str:
        return f"the similarities of its super images, weighted by themselves (temperature {self.temperature:g})"

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        return {"temperature": TEMPERATURES}
