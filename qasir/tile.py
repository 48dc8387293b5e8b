"""Turns a video into its super images, one at a time."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from qasir.decode import FramePainter, Video
from qasir.super_image import Fit, cells


@dataclass(frozen=True)
class Tiling:
    """How frames become super images: `rate` samples a second, N = `grid`, `image_size` pixels a side."""

    rate: Fraction
    grid: int
    image_size: int
    fit: Fit = "squash"


@dataclass(frozen=True)
class SuperImage:
    """One super image. `pixels` is (S, S, 3) uint8 RGB; `n_valid` cells are filled, the rest are black.

    start_s is its first sample's time; end_s = min(last sample's time + 1 / rate, duration).
    """

    position: int
    start_s: float
    end_s: float
    n_valid: int
    pixels: NDArray[np.uint8]


def super_images(
    video: Video, tiling: Tiling, *, skip: Set[int] = frozenset(), allow_partial: bool = False
) -> Iterator[SuperImage]:
    """The video's super images in order, without the positions in `skip` (which are decoded past, not drawn).

    `video.duration_s` is known once the last is out. Raises VideoError as `Video.samples` does.
    """
    layout = cells(tiling.image_size, tiling.grid)
    painter = FramePainter(tiling.fit, video.pixel_aspect)
    per_image = len(layout)
    pixels = np.zeros((0,), dtype=np.uint8)
    index = -1
    for sample in video.samples(tiling.rate, allow_partial=allow_partial):
        position, at = divmod(sample.index, per_image)
        if at == 0:
            # Out only now: whether its last sample lasts a whole period shows when the next one begins.
            if position > 0 and position - 1 not in skip:
                yield _finished(position - 1, per_image, pixels, tiling, until=None)
            if position not in skip:
                pixels = np.zeros((tiling.image_size, tiling.image_size, 3), dtype=np.uint8)
        if position not in skip:
            painter.draw(sample.frame, pixels, layout[at])
        index = sample.index
    position, at = divmod(index, per_image)
    if position not in skip:
        yield _finished(position, at + 1, pixels, tiling, until=video.duration_s)


def _finished(
    position: int, n_valid: int, pixels: NDArray[np.uint8], tiling: Tiling, *, until: float | None
) -> SuperImage:
    first = position * tiling.grid**2
    end_s = float((first + n_valid) / tiling.rate)
    return SuperImage(
        position=position,
        start_s=float(first / tiling.rate),
        end_s=end_s if until is None else min(end_s, until),
        n_valid=n_valid,
        pixels=pixels,
    )


def n_super_images(n_samples: int, grid: int) -> int:
    """ceil(F / N^2)."""
    return -(-n_samples // (grid * grid))
