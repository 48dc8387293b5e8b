"""The vision-language model that encodes super images and texts: any open_clip model."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from qasir.video.super_image import cell_overlap
from qasir.vlm.build import build, no_cells, projects_patches, side_of
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.query_text import check_query
from qasir.vlm.weights import VlmSource

log = logging.getLogger(__name__)

_TEXT_BATCH = 256
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Vlm:
    """An open_clip model ready to encode super images and text.

    precision: "fp32", "bf16" or "fp16", what the image tower computes in (outputs are always float32).
    image_size: pixels a side; another size than the model's own interpolates its position embeddings.
    """

    def __init__(
        self, source: VlmSource, *, image_size: int | None = None, precision: str = "fp32", device: str | None = None
    ) -> None:
        self.source = source
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = precision
        self._model = build(source, image_size).to(self.device).eval()
        self._tokenizer = open_clip.get_tokenizer(source.model)
        tower = self._model.visual
        self.image_size = side_of(self._model)
        mean, std = (torch.tensor(tower.preprocess_cfg[name], device=self.device) for name in ("mean", "std"))
        self._scale = (1.0 / (255.0 * std)).view(1, 3, 1, 1)
        self._shift = (-mean / std).view(1, 3, 1, 1)
        self._pools: dict[int, Tensor] = {}
        self._told_of_cut = False

    @property
    def module(self) -> Any:
        """The open_clip model itself."""
        return self._model

    @property
    def pixel_scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of each channel that the model's pixels are normalised by."""
        config = self._model.visual.preprocess_cfg
        return tuple(config["mean"]), tuple(config["std"])

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(n, context) token ids."""
        return self._tokenizer(list(texts)).to(self.device)

    @property
    def embedding_dim(self) -> int:
        return len(self.encode_texts(["a"])[0])

    @property
    def gives_cells(self) -> bool:
        """Whether patch tokens can be projected like the class token: an open_clip ViT without an attention pooler."""
        return projects_patches(self._model.visual)

    def check_cells(self) -> None:
        if not self.gives_cells:
            raise no_cells(self.source)

    def encode_images(
        self, pixels: NDArray[np.uint8], *, grid: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Embeddings of super images, and with `grid` those of their cells.

        pixels (B, S, S, 3) uint8 RGB. Returns (B, D) and (B, N^2, D) or None, rows L2-normalised. A cell is the mean of
        the patch tokens that it overlaps, weighted by area, then projected and normalised like the class token.
        """
        tower = self._model.visual
        with torch.no_grad(), self._autocast():  # not inference_mode: autocast would cast the weights at every call
            images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2).float()
            images = images * self._scale + self._shift
            if grid is None:
                return _rows(F.normalize(_pooled(tower(images)).float(), dim=-1)), None
            self.check_cells()
            tower.output_tokens = True
            try:
                pooled, tokens = tower(images)
            finally:
                tower.output_tokens = False
            if tower.final_ln_after_pool:
                tokens = tower.ln_post(tokens)
            cell_tokens = self._cell_pool(grid) @ tokens.float()
            cell_embeddings = cell_tokens @ tower.proj.float()
        return _rows(F.normalize(pooled.float(), dim=-1)), _rows(F.normalize(cell_embeddings.float(), dim=-1))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) L2-normalised. Text past the model's context is cut off, as CLIP does, which is logged once.

        Raises QueryError if one is empty or too long to be a query.
        """
        for text in texts:
            check_query(text)
        batches = []
        with torch.no_grad():
            for start in range(0, len(texts), _TEXT_BATCH):
                tokens = self._tokenizer(list(texts[start : start + _TEXT_BATCH])).to(self.device)
                self._tell_of_cut(texts[start : start + _TEXT_BATCH], tokens)
                batches.append(F.normalize(self._model.encode_text(tokens).float(), dim=-1))
        return _rows(torch.cat(batches))

    def _tell_of_cut(self, texts: Sequence[str], tokens: Tensor) -> None:
        if self._told_of_cut:
            return
        full = (tokens != 0).all(dim=1).nonzero().flatten().tolist()  # padding is 0
        if full:
            self._told_of_cut = True
            log.warning(
                "queries are read up to %d tokens, and what is beyond is cut off: this one fills them all: %.60s...",
                tokens.shape[1],
                texts[full[0]],
            )

    def _autocast(self) -> Any:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_AUTOCAST[self.precision])

    def _cell_pool(self, grid: int) -> Tensor:
        if grid not in self._pools:
            weights = cell_overlap(self.image_size, grid, self._model.visual.grid_size[0])
            self._pools[grid] = torch.from_numpy(weights).to(self.device)
        return self._pools[grid]


def _pooled(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _rows(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.cpu().numpy()
