"""What a fine-tuned checkpoint was trained for: its recipe, from which follows how its vectors are scored."""

from dataclasses import dataclass

from qasir.errors import SpecError
from qasir.retrieval.scoring import DEFAULT_GATE_TEMPERATURE, DEFAULT_TEMPERATURE, Scoring

RECIPES = ("qasir", "eercf")


@dataclass(frozen=True)
class Recipe:
    """The objective. aggregation: attention, mean or max, of recipe qasir; temperature: of the attention; gate_temperature: of
    eercf's text-gated interaction; pearson: whether eercf has its constraint.

    margin: of the triplet loss; hard_negatives_after: the epoch from which on its negatives are the hardest of the batch;
    info_nce_weight and info_nce_temperature: of recipe qasir.
    """

    name: str = "qasir"
    aggregation: str = "attention"
    temperature: float = DEFAULT_TEMPERATURE
    gate_temperature: float = DEFAULT_GATE_TEMPERATURE
    pearson: bool = True
    margin: float = 0.2
    hard_negatives_after: int = 5
    info_nce_weight: float = 1.0
    info_nce_temperature: float = 0.05

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise SpecError(f"recipe {self.name!r}: choose one of {', '.join(RECIPES)}")
        if self.aggregation not in ("attention", "mean", "max"):
            raise SpecError(f"aggregation {self.aggregation!r}: recipe qasir trains attention, mean or max")
        if self.margin < 0 or self.info_nce_weight < 0 or self.info_nce_temperature <= 0:
            raise SpecError("margin and the InfoNCE weight must not be negative, its temperature must be above 0")
        Scoring("tib", self.temperature, self.gate_temperature)

    @property
    def scoring(self) -> Scoring:
        """How the trained model's vectors are scored."""
        if self.name == "eercf":
            return Scoring("tib", gate_temperature=self.gate_temperature)
        return Scoring(self.aggregation, self.temperature)
