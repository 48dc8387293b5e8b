"""How long and how fast the packaged VLM is trained."""

from dataclasses import dataclass
from typing import Annotated

from qasir.options import Doc, Range


@dataclass(frozen=True)
class TrainingPlan:
    """tokens: patches a batch, whatever the window's size; texts: class texts a batch; captions: at most so many a
    batch."""

    steps: Annotated[int, Doc("Batches of scenes."), Range(1)] = 4600
    tokens: int = 3072
    muon_lr: float = 0.02
    adam_lr: float = 1e-3
    warmup_steps: int = 60
    decay_fraction: float = 0.5
    weight_decay: float = 0.05
    patch_weight: float = 0.5
    text_weight: float = 0.5
    caption_weight: float = 0.5
    texts: int = 96
    captions: int = 64
    seed: Annotated[int, Doc("Of the weights and of every scene."), Range(0)] = 0

    def rate(self, step: int) -> float:
        """Share of the peak learning rate: linear warm-up, constant, linear decay to 1 %."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        left = (self.steps - step) / (self.decay_fraction * self.steps)
        return warm * max(0.01, min(1.0, left))
