"""The retrieval objective of MOF and its exact meta gradient.

With w the trainable weights of the retrieval model, F a batch's compressed frames and R many frames of the same videos:

    base step   w <- w - lr_w * grad_w L(w; F)
    meta step   w' = w - alpha * grad_w L(w; F),  dF = grad_F L(w'(F); R) = -alpha * (d/dF grad_w L(w; F))^T grad_w' L(w'; R)

L is the contrastive loss in both directions at temperature 0.05 between captions and videos; a video is its frames' embeddings
pooled by their mean or by query attention. "Frames" may be super images. dF is computed as written on the right, so that the
graph through F is never held together with that through R.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from qasir.errors import ModelError, SpecError
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.pooled import Pooled
from qasir.training.finetune.losses import info_nce
from qasir.training.finetune.objective import pooled_scores

TEMPERATURE = 0.05
"""Of the contrastive loss."""
POOLINGS = ("mean", "attention")
LAYERS = ("last", "projections", "all")

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Clips:
    """B (caption, video) pairs: tokens (B, context), frames (B, K, 3, H, W) in normalised pixels, video (B,) numbers."""

    tokens: Tensor
    frames: Tensor
    video: Tensor

    def with_frames(self, frames: Tensor) -> "Clips":
        return Clips(self.tokens, frames, self.video)


class RetrievalModel(nn.Module):
    """An open_clip model, its towers called through one `forward` so that weights can be given from outside."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor | None, frames: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """tokens (B, context) -> (B, D); frames (B, K, 3, H, W) -> (B, K, D); both L2-normalised."""
        clip: Any = self.clip
        texts = None if tokens is None else F.normalize(clip.encode_text(tokens), dim=-1)
        images = None
        if frames is not None:
            images = F.normalize(clip.encode_image(frames.flatten(0, 1)), dim=-1).unflatten(0, frames.shape[:2])
        return texts, images


def choose_weights(model: RetrievalModel, layers: str = "last") -> Weights:
    """The weights to train, by name; all others are frozen.

    layers: "projections" are what maps each tower's output into the joint space and the norm before it; "last" adds the last
    block of each tower; "all" is everything. Raises SpecError for another word, ModelError where a model has no such parts.
    """
    if layers not in LAYERS:
        raise SpecError(f"layers {layers!r}: choose one of {', '.join(LAYERS)}")
    names = [name for name, _ in model.named_parameters()]
    wanted = set(names) if layers == "all" else {name for name in names if _is_projection(name)}
    if layers == "last":
        for blocks in _block_lists(model):
            wanted |= {name for name in names if name.startswith(f"{blocks}.")}
    towers = {name.startswith("clip.visual.") for name in wanted if "logit" not in name}
    if towers != {True, False}:
        raise ModelError("cannot tell this model's projections and blocks apart: train --layers all")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted and "logit_" not in name)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


_PROJECTIONS = ("proj", "text_projection", "ln_post", "ln_final", "head", "norm", "fc_norm", "attn_pool")


def _is_projection(name: str) -> bool:
    parts = name.split(".")
    return any(part in _PROJECTIONS for part in parts[:4]) and not any(
        part in ("resblocks", "blocks") for part in parts
    )


def _block_lists(model: nn.Module) -> list[str]:
    """The name of each tower's last block."""
    return [
        f"{name}.{len(module) - 1}"
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        and name.rsplit(".", 1)[-1] in ("resblocks", "blocks")
        and len(module)
    ]


@dataclass(frozen=True)
class Objective:
    """L(w; frames). attention_temperature: of the query attention, where pooling is by attention."""

    pooling: str = "mean"
    attention_temperature: float = Attention.temperature

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise SpecError(f"pooling {self.pooling!r}: choose one of {', '.join(POOLINGS)}")

    @property
    def scoring(self) -> Pooled:
        return Attention(self.attention_temperature) if self.pooling == "attention" else Mean()

    def loss(self, model: RetrievalModel, weights: Mapping[str, Tensor], clips: Clips) -> Tensor:
        """The contrastive loss of a batch under the given weights (the others are the model's own)."""
        # Fused attention has no second derivative on CPUs.
        with sdpa_kernel(SDPBackend.MATH):
            texts, images = functional_call(model, dict(weights), (clips.tokens, clips.frames))
        assert texts is not None
        assert images is not None
        padding = torch.zeros(images.shape[:2], dtype=torch.bool, device=images.device)
        scores = pooled_scores(texts, images, padding, self.scoring)
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
    compressed = objective.loss(model, fixed, clips.with_frames(frames))
    inner = torch.autograd.grad(compressed, list(fixed.values()), create_graph=True)
    stepped = {
        name: (value - inner_lr * gradient).detach().requires_grad_()
        for (name, value), gradient in zip(fixed.items(), inner, strict=True)
    }
    outer = objective.loss(model, stepped, clips.with_frames(dense))
    direction = torch.autograd.grad(outer, list(stepped.values()))
    (gradient,) = torch.autograd.grad(
        inner, frames, grad_outputs=[-inner_lr * one for one in direction], allow_unused=True
    )
    if gradient is None:
        gradient = torch.zeros_like(frames)
    return MetaGradient(gradient, float(compressed.detach()), float(outer.detach()))
