"""Query-image attention (QASIR, arXiv 2312.00414): a = softmax(c / tau), score = cos(q, sum_i a_i s_i)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from qasir.options import Doc
from qasir.retrieval.methods.method import check_temperature
from qasir.retrieval.methods.pooled import Pooled

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
"""What validation chooses a temperature from."""


@dataclass(frozen=True)
class Attention(Pooled):
    """Every super image counts by how well it fits the query; towards temperature 0 it is max pooling, towards infinity
    mean."""

    name = "attention"

    temperature: Annotated[float, Doc("Of the attention; towards 0 it becomes max pooling.")] = 0.02

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)

    def weights(self, similarity: "Tensor", padding: "Tensor | None") -> "Tensor":
        return (similarity / self.temperature).softmax(dim=1)

    def sentence(self) -> str:
        return f"query attention over its super images (temperature {self.temperature:g})"

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        return {"temperature": TEMPERATURES}
