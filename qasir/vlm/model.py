"""The vision-language model that encodes super images and texts: any open_clip model."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from qasir.vlm.build import build
from qasir.vlm.image_tower import Encoded, ImageTower, default_device
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.query_text import check_query
from qasir.vlm.weights import VlmSource

log = logging.getLogger(__name__)

_TEXT_BATCH = 256


class Vlm:
    """An open_clip model ready to encode super images and text; what encodes super images alone needs its `ImageTower`
    only.

    precision: "fp32", "bf16" or "fp16", what the image tower computes in (outputs are always float32).
    image_size: pixels a side; another size than the model's own interpolates its position embeddings.
    """

    def __init__(
        self, source: VlmSource, *, image_size: int | None = None, precision: str = "fp32", device: str | None = None
    ) -> None:
        self.source = source
        self.device = torch.device(device) if device else default_device()
        self.precision = precision
        self._model = build(source, image_size).eval()
        self._tokenizer = open_clip.get_tokenizer(source.model)
        self.images = ImageTower(self._model.visual, source, precision=precision, device=self.device)
        self._model.to(self.device)
        self._told_of_cut = False

    @property
    def image_size(self) -> int:
        """Pixels a side of what it takes."""
        return self.images.image_size

    @property
    def module(self) -> Any:
        """The open_clip model itself."""
        return self._model

    @property
    def pixel_scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of each channel that the model's pixels are normalised by."""
        return self.images.pixel_scale

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(n, context) token ids."""
        return self._tokenizer(list(texts)).to(self.device)

    @property
    def embedding_dim(self) -> int:
        return len(self.encode_texts(["a"])[0])

    def check_cells(self) -> None:
        """Raises ModelError where `encode_images` cannot give cells."""
        self.images.check_cells()

    def encode_images(self, pixels: NDArray[np.uint8], *, grid: int | None = None) -> Encoded:
        """As `ImageTower.encode_images`."""
        return self.images.encode_images(pixels, grid=grid)

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


def _rows(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.cpu().numpy()
