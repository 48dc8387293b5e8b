"""Which trainable parts a fine-tuned model has, and how large they are; `qasir.retrieval.modules` is made of it."""

from dataclasses import dataclass
from typing import Annotated

from qasir.errors import SpecError
from qasir.options import Doc


@dataclass(frozen=True)
class Architecture:
    """Which parts there are and their sizes, relative to the embedding's dimension D.

    heads must divide D; dropout is high because captions are few: 0.1 was worse on the demo's validation set.
    """

    text_adapter: bool = True
    image_adapter: bool = True
    temporal: Annotated[bool, Doc("The temporal encoder over a video's super images.")] = True
    dropout: Annotated[float, Doc("In all modules.")] = 0.4
    bottleneck: Annotated[float, Doc("Hidden width of an adapter over the embedding's.")] = 1.0
    layers: Annotated[int, Doc("Of the temporal encoder.")] = 1
    heads: Annotated[int, Doc("Of the temporal encoder.")] = 4

    def __post_init__(self) -> None:
        if not (self.text_adapter or self.image_adapter or self.temporal):
            raise SpecError("nothing to train: keep an adapter or the temporal encoder")
        if not 0.0 <= self.dropout < 1.0:
            raise SpecError(f"dropout {self.dropout:g}: choose a number from 0 to below 1")
        if self.bottleneck <= 0 or self.layers < 1 or self.heads < 1:
            raise SpecError("bottleneck, layers and heads must be above 0")

    @property
    def useless(self) -> dict[str, str]:
        """{field: why} of the sizes of parts that are left out."""
        found = {}
        if not (self.text_adapter or self.image_adapter):
            found["bottleneck"] = "is of the adapters, which are left out"
        if not self.temporal:
            found |= dict.fromkeys(("layers", "heads"), "is of the temporal encoder, which is left out")
        return found
