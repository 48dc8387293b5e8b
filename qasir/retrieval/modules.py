"""The trainable parts of fine-tuned QASIR (arXiv 2312.00414) and EERCF (AAAI 2024), on a frozen VLM's embeddings.

    text         t = A_text(q)
    super images x_i = A_image(s_i),  z = T(x_1 .. x_M)
    cells        A_image(c_j)

A is an adapter, T the temporal encoder; each may be left out and is then the identity. Everything starts as the
identity, so that training begins at the zero-shot scores. All vectors in and out are L2-normalised.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from qasir.errors import SpecError
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.vectors import Features

_BLOCK_ROWS = 1 << 13
_POSITION_PERIOD = 10_000.0


class Adapter(nn.Module):
    """x -> normalise(x + up(gelu(down(x)))), rows (..., D); `up` starts at zero."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden)
        self.drop = nn.Dropout(dropout)
        self.up = nn.Linear(hidden, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, rows: Tensor) -> Tensor:
        # Normalised components are about 1/sqrt(D): scaled to 1, the first layer starts where its initialisation
        # expects.
        hidden = F.gelu(self.down(rows * math.sqrt(rows.shape[-1])))
        return F.normalize(rows + self.up(self.drop(hidden)), dim=-1)


class TemporalEncoder(nn.Module):
    """(V, M, D) super images of videos in order -> the same, each knowing the others: a Transformer encoder with
    sinusoidal positions (any M), on a residual that starts at zero. padding (V, M) is true where there is none."""

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise SpecError(f"the temporal encoder's {heads} heads do not divide the embedding's {dim} dimensions")
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor, padding: Tensor | None) -> Tensor:
        _, n_images, dim = images.shape
        scaled = images * math.sqrt(dim) + positions(n_images, dim, images.device)
        return F.normalize(images + self.out(self.encoder(scaled, src_key_padding_mask=padding)), dim=-1)


def positions(n: int, dim: int, device: torch.device) -> Tensor:
    """(n, dim) sinusoidal position embeddings (Vaswani et al., 2017)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(_POSITION_PERIOD) / dim))
    angle = torch.arange(n, device=device)[:, None] * rate
    table = torch.zeros(n, dim, device=device)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()[:, : dim // 2]
    return table


class FineTuned(nn.Module):
    """All trainable parts for one embedding dimension."""

    def __init__(self, dim: int, architecture: Architecture) -> None:
        super().__init__()
        self.dim = dim
        self.architecture = architecture
        hidden = max(1, round(architecture.bottleneck * dim))
        self.text_adapter = Adapter(dim, hidden, architecture.dropout) if architecture.text_adapter else None
        self.image_adapter = Adapter(dim, hidden, architecture.dropout) if architecture.image_adapter else None
        self.temporal = (
            TemporalEncoder(dim, architecture.layers, architecture.heads, architecture.dropout)
            if architecture.temporal
            else None
        )

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def texts(self, rows: Tensor) -> Tensor:
        """(n, D) query embeddings -> the same, adapted."""
        return rows if self.text_adapter is None else self.text_adapter(rows)

    def frames(self, rows: Tensor) -> Tensor:
        """(..., D) super images or cells, adapted one by one: what a text-gated interaction is gated by."""
        return rows if self.image_adapter is None else self.image_adapter(rows)

    def images(self, rows: Tensor, padding: Tensor | None = None) -> Tensor:
        """(V, M, D) adapted super images -> temporally encoded; padding (V, M)."""
        return rows if self.temporal is None else self.temporal(rows, padding)

    # On stored vectors, without gradients

    def query_vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The text side: (n, D) -> (n, D)."""
        with _evaluating(self):
            return _numpy(self.texts(self._here(vectors)))

    def cell_vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The video side for cells: (n, D) -> (n, D)."""
        with _evaluating(self):
            parts = [
                _numpy(self.frames(self._here(vectors[low : low + _BLOCK_ROWS])))
                for low in range(0, len(vectors), _BLOCK_ROWS)
            ]
        return np.concatenate(parts) if parts else vectors

    def video_vectors(self, features: Features) -> Features:
        """The video side for super images: the same layout, `gates` being the adapted ones before the temporal
        encoder."""
        values, gates = np.empty_like(features.vectors), np.empty_like(features.vectors)
        stored = torch.from_numpy(features.vectors)
        with _evaluating(self):
            for block in features.blocks(_BLOCK_ROWS):
                padding = None if block.padding is None else torch.from_numpy(block.padding)
                frames = self.frames(self._here(block.of(stored)))
                images = self.images(frames, None if padding is None else padding.to(frames.device))
                rows = np.arange(block.rows.start, block.rows.stop) if isinstance(block.rows, slice) else block.rows
                kept = slice(None) if block.padding is None else ~block.padding.ravel()
                values[rows[kept]] = _numpy(images.flatten(0, 1))[kept]
                gates[rows[kept]] = _numpy(frames.flatten(0, 1))[kept]
        return Features(features.first, features.length, values, gates if self.temporal is not None else None)

    def _here(self, rows: "NDArray[np.float32] | Tensor") -> Tensor:
        tensor = rows if isinstance(rows, Tensor) else torch.from_numpy(np.ascontiguousarray(rows))
        return tensor.to(next(self.parameters()).device)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Without gradients and dropout, and as it was afterwards."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def _numpy(rows: Tensor) -> NDArray[np.float32]:
    return rows.float().cpu().numpy()
