"""What is trained for: the losses of fine-tuned QASIR and of EERCF on a batch of pairs.

    qasir   triplet + w * InfoNCE on the query-image attention's scores (arXiv 2312.00414; the losses are its field's)
    eercf   0.8 L(S_weak) + 0.2 L(S_strong) + 0.001 [Pearson(text, video) + Pearson(text, TIB output)]  (AAAI 2024)
            S_weak = 0.5 S_video + 0.5 S_super-image-weighted + 0.05 S_cell-weighted,  S_strong = S_TIB

Where this departs from EERCF: the paper also trains CLIP, here the VLM is frozen and adapters stand in for that; its
frames are super images and its patches cells; captions of one video are no negatives of each other.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qasir.retrieval.methods.coarse_to_fine import WEIGHTED
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.modules import FineTuned
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.scoring import NEVER, similarities
from qasir.training.finetune.losses import info_nce, pearson, triplet

_VIDEO, _IMAGES, _CELLS = 0.5, 0.5, 0.05
_WEAK, _STRONG, _PEARSON = 0.8, 0.2, 0.001
_LARGEST_SCALE = 100.0
_FIRST_SCALE = 1 / 0.07


@dataclass(frozen=True)
class Batch:
    """B (query, video) pairs: texts (B, D), images (B, M, D) with image_padding (B, M), cells (B, C, D) or None
    likewise, and the number of each pair's video (B,). Vectors are the VLM's, L2-normalised; padding is true where
    there is nothing."""

    texts: Tensor
    images: Tensor
    image_padding: Tensor
    video: Tensor
    cells: Tensor | None = None
    cell_padding: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in vars(self).items()}
        return Batch(**moved)


@dataclass
class Loss:
    """total, to minimise, and its parts by name (detached)."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module):
    """The recipe's loss of a model on a batch; holds the model and, for eercf, the learned scale."""

    def __init__(self, model: FineTuned, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        if recipe.name == "eercf":
            self.log_scale = nn.Parameter(torch.tensor(math.log(_FIRST_SCALE)))

    def forward(self, batch: Batch, *, epoch: int, generator: torch.Generator | None = None) -> Loss:
        texts = self.model.texts(batch.texts)
        frames = self.model.frames(batch.images)
        images = self.model.images(frames, batch.image_padding)
        same = batch.video[:, None] == batch.video[None, :]
        if self.recipe.name == "qasir":
            return self._qasir(texts, images, batch.image_padding, same, epoch, generator)
        return self._eercf(texts, frames, images, batch, same)

    def _qasir(
        self, texts: Tensor, images: Tensor, padding: Tensor, same: Tensor, epoch: int,
        generator: torch.Generator | None,
    ) -> Loss:  # fmt: skip
        recipe = self.recipe
        scores = pooled_scores(texts, images, padding, recipe.scoring)
        hard = epoch >= recipe.hard_negatives_after
        ranking = triplet(scores, same, recipe.margin, hard=hard, generator=generator)
        contrast = info_nce(scores / recipe.info_nce_temperature, same)
        total = ranking + recipe.info_nce_weight * contrast
        return Loss(total, {"triplet": ranking.detach(), "info_nce": contrast.detach()})

    def _eercf(self, texts: Tensor, frames: Tensor, images: Tensor, batch: Batch, same: Tensor) -> Loss:
        kept = (~batch.image_padding).float()[:, :, None]
        video = F.normalize((images * kept).sum(dim=1), dim=-1)
        weak = _VIDEO * texts @ video.T + _IMAGES * pooled_scores(texts, images, batch.image_padding, WEIGHTED)
        if batch.cells is not None:
            assert batch.cell_padding is not None
            weak = weak + _CELLS * pooled_scores(texts, self.model.frames(batch.cells), batch.cell_padding, WEIGHTED)
        gated = text_gated(texts, frames, images, batch.image_padding, self.recipe.scoring)
        strong = texts @ gated.T
        scale = self.log_scale.exp().clamp_max(_LARGEST_SCALE)
        loss_weak, loss_strong = info_nce(scale * weak, same), info_nce(scale * strong, same)
        parts = {"weak": loss_weak.detach(), "strong": loss_strong.detach(), "scale": scale.detach()}
        total = _WEAK * loss_weak + _STRONG * loss_strong
        if self.recipe.pearson and len(texts) > 1:
            constraint = pearson(texts, video) + pearson(texts, gated)
            parts["pearson"] = constraint.detach()
            total = total + _PEARSON * constraint
        return Loss(total, parts)


def pooled_scores(texts: Tensor, images: Tensor, padding: Tensor, method: Pooled) -> Tensor:
    """(Q, V) scores of texts (Q, D) and vectors (V, M, D), padded (V, M), as the method gives them, with gradients."""
    return method.pool(similarities(texts, images, padding), images, padding).T


def text_gated(texts: Tensor, gates: Tensor, values: Tensor, padding: Tensor, method: Pooled) -> Tensor:
    """(B, D) output of the text-gated interaction block, each video gated by its own caption, without gradient to the
    gate."""
    cosine = torch.einsum("bd,bmd->bm", texts.detach(), gates.detach()).masked_fill(padding, NEVER)
    weights = method.weights(cosine[:, :, None], padding)
    return F.normalize((weights * values).sum(dim=1), dim=-1)
