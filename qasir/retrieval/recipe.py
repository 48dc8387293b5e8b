"""What a fine-tuned checkpoint was trained for: its recipe, from which follows how its vectors are scored."""

from dataclasses import dataclass
from typing import Annotated

from qasir.errors import SpecError
from qasir.options import Doc, Flag
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.methods.text_gated import TextGated

RECIPES = ("qasir", "eercf")
TRAINED = ("attention", "mean", "max")
"""Aggregations that recipe qasir trains."""
_OF_QASIR = ("aggregation", "temperature", "margin", "hard_negatives_after", "info_nce_weight")
_OF_EERCF = ("gate_temperature", "pearson")


@dataclass(frozen=True)
class Recipe:
    """The objective. Each recipe has fields of its own, which the other has no use for (`useless`).

    hard_negatives_after: the epoch from which on the triplet loss's negatives are the hardest of the batch.
    """

    name: Annotated[str, Doc(f"{' or '.join(RECIPES)}."), Flag("--recipe")] = "qasir"
    pearson: Annotated[bool, Doc("eercf: the Pearson constraint.")] = True
    aggregation: Annotated[str, Doc("qasir: attention, mean or max.")] = "attention"
    temperature: Annotated[float, Doc("qasir: of the attention.")] = Attention.temperature
    gate_temperature: Annotated[float, Doc("eercf: of the text-gated interaction.")] = TextGated.gate_temperature
    margin: Annotated[float, Doc("qasir: of the triplet loss.")] = 0.2
    hard_negatives_after: Annotated[int, Doc("qasir: epochs with random negatives.")] = 5
    info_nce_weight: Annotated[float, Doc("qasir: of InfoNCE beside the triplet loss.")] = 1.0
    info_nce_temperature: float = 0.05

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise SpecError(f"recipe {self.name!r}: choose one of {', '.join(RECIPES)}")
        if self.aggregation not in TRAINED:
            raise SpecError(f"aggregation {self.aggregation!r}: recipe qasir trains {', '.join(TRAINED)}")
        if self.margin < 0 or self.info_nce_weight < 0 or self.info_nce_temperature <= 0:
            raise SpecError("margin and the InfoNCE weight must not be negative, its temperature must be above 0")
        Attention(self.temperature)
        TextGated(self.gate_temperature)

    @property
    def useless(self) -> dict[str, str]:
        """{field: why} of what has no part in this recipe."""
        foreign, owner = (_OF_QASIR, "qasir") if self.name == "eercf" else (_OF_EERCF, "eercf")
        found = dict.fromkeys(foreign, f"is of recipe {owner}")
        if self.name == "qasir" and self.aggregation != "attention":
            found["temperature"] = f"is of attention, and aggregation {self.aggregation} has none"
        return found

    @property
    def scoring(self) -> Pooled:
        """How the trained model's vectors are scored."""
        if self.name == "eercf":
            return TextGated(self.gate_temperature)
        return {"attention": Attention(self.temperature), "mean": Mean(), "max": Max()}[self.aggregation]
