"""The retrieval objective of MOF and its exact meta gradient.

With w the trainable weights of the retrieval model, F a batch's compressed frames and R many frames of the same videos:

    base step   w <- w - lr_w * grad_w L(w; F)
    meta step   w' = w - alpha * grad_w L(w; F)
                dF = grad_F L(w'(F); R) = -alpha * (d/dF grad_w L(w; F))^T grad_w' L(w'; R)

L is the contrastive loss in both directions at temperature 0.05 between captions and videos; a video is its frames'
embeddings pooled by their mean or by query attention. "Frames" may be super images. dF is computed as written on the
right, so that the graph through F is never held together with that through R.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from qasir.training.finetune.losses import info_nce
from qasir.training.finetune.objective import pooled_scores
from qasir.training.mof.settings import Objective
from qasir.training.mof.trainable import RetrievalModel, Weights

TEMPERATURE = 0.05
"""Of the contrastive loss."""


@dataclass(frozen=True)
class Clips:
    """B (caption, video) pairs: tokens (B, context), frames (B, K, 3, H, W) in normalised pixels, video (B,)
    numbers."""

    tokens: Tensor
    frames: Tensor
    video: Tensor

    def with_frames(self, frames: Tensor) -> "Clips":
        return Clips(self.tokens, frames, self.video)


def loss_of(objective: Objective, model: RetrievalModel, weights: Mapping[str, Tensor], clips: Clips) -> Tensor:
    """L(w; frames): the contrastive loss of a batch under the given weights (the others are the model's own)."""
    # Fused attention has no second derivative on CPUs.
    with sdpa_kernel(SDPBackend.MATH):
        texts, images = functional_call(model, dict(weights), (clips.tokens, clips.frames))
    assert texts is not None
    assert images is not None
    padding = torch.zeros(images.shape[:2], dtype=torch.bool, device=images.device)
    scores = pooled_scores(texts, images, padding, objective.scoring)
    return info_nce(scores / TEMPERATURE, clips.video[:, None] == clips.video[None, :])


@dataclass(frozen=True)
class MetaGradient:
    """frames (B, K, 3, H, W): dF; compressed and dense: L(w; F) and L(w'; R)."""

    frames: Tensor
    compressed: float
    dense: float


def meta_gradient(
    objective: Objective, model: RetrievalModel, weights: Weights, clips: Clips, dense: Tensor, inner_lr: float
) -> MetaGradient:
    """The exact gradient of L(w'(F); R) by F = clips.frames; dense (B, R, 3, H, W) are the same videos' many frames."""
    frames = clips.frames.detach().requires_grad_()
    fixed = {name: value.detach().requires_grad_() for name, value in weights.items()}
    compressed = loss_of(objective, model, fixed, clips.with_frames(frames))
    inner = torch.autograd.grad(compressed, list(fixed.values()), create_graph=True)
    stepped = {
        name: (value - inner_lr * gradient).detach().requires_grad_()
        for (name, value), gradient in zip(fixed.items(), inner, strict=True)
    }
    outer = loss_of(objective, model, stepped, clips.with_frames(dense))
    direction = torch.autograd.grad(outer, list(stepped.values()))
    (gradient,) = torch.autograd.grad(
        inner, frames, grad_outputs=[-inner_lr * one for one in direction], allow_unused=True
    )
    if gradient is None:
        gradient = torch.zeros_like(frames)
    return MetaGradient(gradient, float(compressed.detach()), float(outer.detach()))
