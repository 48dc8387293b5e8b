"""What a fine-tuned checkpoint was trained for: its recipe, from which follows how its vectors are scored."""

from dataclasses import dataclass

from qasir.errors import SpecError
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.methods.text_gated import TextGated

RECIPES = ("qasir", "eercf")
TRAINED = ("attention", "mean", "max")
"""Aggregations that recipe qasir trains."""


@dataclass(frozen=True)
class Recipe:
    """The objective. aggregation: attention, mean or max, of recipe qasir; temperature: of the attention; gate_temperature: of
    eercf's text-gated interaction; pearson: whether eercf has its constraint.

    margin: of the triplet loss; hard_negatives_after: the epoch from which on its negatives are the hardest of the batch;
    info_nce_weight and info_nce_temperature: of recipe qasir.
    """

    name: str = "qasir"
    aggregation: str = "attention"
    temperature: float = Attention.temperature
    gate_temperature: float = TextGated.gate_temperature
    pearson: bool = True
    margin: float = 0.2
    hard_negatives_after: int = 5
    info_nce_weight: float = 1.0
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
    def scoring(self) -> Pooled:
        """How the trained model's vectors are scored."""
        if self.name == "eercf":
            return TextGated(self.gate_temperature)
        return {"attention": Attention(self.temperature), "mean": Mean(), "max": Max()}[self.aggregation]
