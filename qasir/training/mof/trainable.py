"""The model that MOF trains, and which of its weights."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from qasir.errors import ModelError, SpecError
from qasir.training.mof.settings import LAYERS

Weights = dict[str, Tensor]


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

    layers: "projections" are what maps each tower's output into the joint space and the norm before it; "last" adds the
    last block of each tower; "all" is everything. Raises SpecError for another word, ModelError where a model has no
    such parts.
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
