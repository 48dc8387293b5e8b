"""The half of a vision-language model that encodes super images: all of it that an encoder needs."""

import ctypes
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from qasir.video.super_image import cell_overlap
from qasir.vlm.build import build, no_cells, projects_patches, tower_side
from qasir.vlm.casting import cast
from qasir.vlm.transfer import transfer_for
from qasir.vlm.weights import VlmSource

Encoded = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""(B, D) embeddings, and (B, N^2, D) of cells or None; rows L2-normalised."""


class ImageTower:
    """An open_clip model's image tower on a device. Several threads may share one.

    precision: "fp32", "bf16" or "fp16", what it computes in (what it gives is always float32); the tower is cast in
    place. device: None is a GPU where there is one.
    """

    def __init__(
        self, tower: nn.Module, source: VlmSource, *, precision: str = "fp32", device: torch.device | None = None
    ) -> None:
        self.source = source
        self.device = device or default_device()
        self.precision = precision
        self._cast = cast(tower, precision, self.device)  # where it is, so that what moves is small
        self.module: Any = tower.to(self.device).eval()
        self.image_size = tower_side(self.module)
        mean, std = (torch.tensor(values, device=self.device) for values in self.pixel_scale)
        self._scale, self._shift = (each.repeat(self.image_size) for each in (1.0 / (255.0 * std), -mean / std))
        self._transfer = transfer_for(self.device)
        self._pools: dict[int, Tensor] = {}
        self._launching = threading.Lock()

    @classmethod
    def load(
        cls, source: VlmSource, *, image_size: int | None = None, precision: str = "fp32", device: str | None = None
    ) -> "ImageTower":
        """A model's image tower alone; its text tower is gone once this returns. Raises ModelError.

        image_size: pixels a side; another size than the model's own interpolates its position embeddings.
        """
        on = torch.device(device) if device else default_device()
        tower = cls(build(source, image_size).visual, source, precision=precision, device=on)
        _give_back_memory()
        return tower

    @property
    def dtype(self) -> torch.dtype:
        """Of the images that its module takes."""
        return self._cast.dtype

    @property
    def pixel_scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of each channel that the model's pixels are normalised by."""
        config = self.module.preprocess_cfg
        return tuple(config["mean"]), tuple(config["std"])

    @property
    def gives_cells(self) -> bool:
        """Whether patch tokens can be projected like the class token: an open_clip ViT without an attention pooler."""
        return projects_patches(self.module)

    def check_cells(self) -> None:
        if not self.gives_cells:
            raise no_cells(self.source)

    def encode_images(self, pixels: NDArray[np.uint8], *, grid: int | None = None) -> Encoded:
        """Embeddings of super images, and with `grid` those of their cells.

        pixels (B, S, S, 3) uint8 RGB. Returns (B, D) and (B, N^2, D) or None, rows L2-normalised. A cell is the mean of
        the patch tokens that it overlaps, weighted by area, then projected and normalised like the class token.
        """
        return self.submit(pixels, grid=grid)()

    def submit(self, pixels: NDArray[np.uint8], *, grid: int | None = None) -> Callable[[], Encoded]:
        """`encode_images` begun: what is returned waits for the result and gives it. On a GPU this returns while it
        still computes, so that the next batch can be submitted; on a CPU all is computed by then."""
        if grid is not None:
            self.check_cells()
        staged = self._transfer.staged(pixels)
        # Not inference_mode: autocast would cast what is left to cast at every call. One thread at a time, since an
        # attribute of the tower says whether it gives tokens, and no batch should wait for the copy of the next.
        with self._launching, torch.no_grad(), self.computing():
            results = self._embeddings(self._normalised(self._transfer.put(staged)), grid)
            fetched = self._transfer.fetch([F.normalize(each.float(), dim=-1) for each in results])

        def result() -> Encoded:
            embeddings, *cells = fetched()
            return embeddings, cells[0] if cells else None

        return result

    def computing(self) -> AbstractContextManager[object]:
        """The context that its module computes in."""
        return self._cast.computing(self.device, self.precision)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 -> (B, 3, S, S), laid out as it came, of what the tower takes.

        Row by row of the picture, (B, S, 3 S), which is several times faster than channel by channel.
        """
        rows = pixels.flatten(2)
        if self.dtype == torch.float32:
            images = rows.float().mul_(self._scale).add_(self._shift)
        else:  # in float32, rounded as it is written: one pass
            images = torch.addcmul(self._shift, rows, self._scale, out=torch.empty_like(rows, dtype=self.dtype))
        return images.view(pixels.shape).permute(0, 3, 1, 2)

    def _embeddings(self, images: Tensor, grid: int | None) -> list[Tensor]:
        """Not normalised: (B, D), and with `grid` (B, N^2, D)."""
        tower = self.module
        if grid is None:
            return [_pooled(tower(images))]
        tower.output_tokens = True
        try:
            pooled, tokens = tower(images)
        finally:
            tower.output_tokens = False
        if tower.final_ln_after_pool:
            tokens = tower.ln_post(tokens)
        return [pooled, (self._cell_pool(grid, tokens.dtype) @ tokens) @ tower.proj]

    def _cell_pool(self, grid: int, dtype: torch.dtype) -> Tensor:
        if grid not in self._pools:
            weights = cell_overlap(self.image_size, grid, self.module.grid_size[0])
            self._pools[grid] = torch.from_numpy(weights).to(self.device, dtype)
        return self._pools[grid]


def _give_back_memory() -> None:
    """Have the C library return what is free to the system: of a checkpoint and a text tower, glibc keeps all pieces
    below 32 MiB, 180 to 320 MiB for ViT-B-32. Other C libraries have no such call."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _pooled(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
