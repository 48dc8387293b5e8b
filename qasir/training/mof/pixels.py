"""Pixels as a model normalises them, and back."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class PixelScale:
    """The model's normalisation: normalised = pixels / 255 / std - mean / std, a channel each (3,)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(..., S, S, 3) uint8 -> (..., 3, S, S) float32."""
        values = torch.from_numpy(pixels).movedim(-1, -3).float() / 255.0
        return (values - self._column(self.mean)) / self._column(self.std)

    def pixels(self, values: Tensor) -> NDArray[np.uint8]:
        """The way back, rounded and clamped to what can be shown."""
        shown = (values * self._column(self.std) + self._column(self.mean)).clamp(0, 1) * 255.0
        return shown.round().byte().movedim(-3, -1).numpy()

    def clamp(self, values: Tensor) -> Tensor:
        """Normalised values of colours that exist."""
        low, high = (
            -self._column(self.mean) / self._column(self.std),
            (1 - self._column(self.mean)) / self._column(self.std),
        )
        return values.clamp(low, high)

    @staticmethod
    def _column(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values).view(3, 1, 1)
