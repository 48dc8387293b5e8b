"""The geometry of a super image: N x N frames on one image (QASIR, arXiv 2312.00414, section 3).

Sampled frames are taken in runs of N^2 and laid out row by row, left to right. A short last run leaves blank (black)
cells at the end. Cell edges partition the image exactly for any N and size, so cells differ by at most one pixel.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qasir.errors import SpecError

Fit = Literal["squash", "letterbox"]
Sampling = Literal["uniform", "keyframes"]


@dataclass(frozen=True)
class Cell:
    """Pixel bounds of one cell: rows top..bottom and columns left..right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left


def cell_edges(size: int, grid: int) -> NDArray[np.int64]:
    """(grid + 1,) pixel positions; cell i spans edges[i]..edges[i + 1]. Raises SpecError if a cell would be empty."""
    if not 1 <= grid <= size:
        raise SpecError(f"grid {grid} does not fit an image of {size} px: choose 1 <= grid <= {size}")
    return np.arange(grid + 1, dtype=np.int64) * size // grid


def cells(size: int, grid: int) -> list[Cell]:
    """The grid's N^2 cells in filling order: row by row, left to right."""
    edges = cell_edges(size, grid).tolist()
    rows = list(itertools.pairwise(edges))
    return [Cell(top, left, bottom, right) for top, bottom in rows for left, right in rows]


def fit_inside(cell: Cell, display_aspect: float, fit: Fit) -> Cell:
    """Where in `cell` a frame of the given display aspect (width / height) goes.

    squash fills the cell; letterbox keeps the aspect, centred, with at least one pixel each way.
    """
    if fit == "squash":
        return cell
    width = min(cell.width, max(1, round(cell.height * display_aspect)))
    height = min(cell.height, max(1, round(cell.width / display_aspect)))
    top = cell.top + (cell.height - height) // 2
    left = cell.left + (cell.width - width) // 2
    return Cell(top, left, top + height, left + width)


def cell_overlap(image_size: int, grid: int, patches: int) -> NDArray[np.float32]:
    """(N^2, P^2) weights that pool a P x P grid of patch tokens into the cells by area overlap; rows sum to 1."""
    edges = cell_edges(image_size, grid).astype(np.float64)
    patch_edges = np.linspace(0.0, image_size, patches + 1)
    low = np.maximum(edges[:-1, None], patch_edges[None, :-1])
    high = np.minimum(edges[1:, None], patch_edges[None, 1:])
    along = np.clip(high - low, 0.0, None)
    along /= along.sum(axis=1, keepdims=True)
    area = np.einsum("ip,jq->ijpq", along, along)
    return area.reshape(grid * grid, patches * patches).astype(np.float32)
