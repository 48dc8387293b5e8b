"""EERCF's text-gated interaction block (AAAI 2024), parameter-free: w = softmax(cos(q, x) / tau_g), score = cos(q,
sum_j w_j s_j).

x are the super images before the temporal encoder (a fine-tuned index's gates), s those after it; zero-shot they are
the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from qasir.options import Doc
from qasir.retrieval.methods.attention import TEMPERATURES
from qasir.retrieval.methods.method import check_temperature
from qasir.retrieval.methods.pooled import Pooled

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TextGated(Pooled):
    """Attention at EERCF's temperature, weighed by a video's gates where it has some."""

    name = "tib"
    gated = True

    gate_temperature: Annotated[float, Doc("Of the text-gated interaction.")] = 0.1

    def __post_init__(self) -> None:
        check_temperature("gate temperature", self.gate_temperature)

    def weights(self, similarity: "Tensor", padding: "Tensor | None") -> "Tensor":
        return (similarity / self.gate_temperature).softmax(dim=1)

    def sentence(self) -> str:
        return f"text-gated interaction over its super images (gate temperature {self.gate_temperature:g})"

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        return {"gate_temperature": TEMPERATURES}
