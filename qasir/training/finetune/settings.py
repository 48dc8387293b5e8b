"""How a fine-tuning is trained, as it is asked for."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from qasir.errors import SpecError
from qasir.options import Doc
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    """How to train. AdamW's learning rate is warmed up over an epoch, then falls as a cosine to zero at the last."""

    recipe: Recipe = field(default_factory=Recipe)
    architecture: Architecture = field(default_factory=Architecture)
    epochs: Annotated[int, Doc("At most.")] = 8
    patience: Annotated[int, Doc("Stop after so many epochs without a better SumR.")] = 3
    batch_size: Annotated[int, Doc("(query, video) pairs a batch and worker.")] = 128
    lr: Annotated[float, Doc("Learning rate.")] = 5e-4
    weight_decay: Annotated[float, Doc("Of AdamW.")] = 0.01
    seed: Annotated[int, Doc("The same seed gives the same checkpoint on one kind of CPU.")] = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.patience < 1:
            raise SpecError("epochs and patience must be 1 or more")
        if not (self.lr > 0 and math.isfinite(self.lr)) or self.weight_decay < 0:
            raise SpecError("the learning rate must be above 0, and the weight decay not below it")
