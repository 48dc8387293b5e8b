"""An image tower's weights in the precision it computes in, cast once: autocast casts them again for every batch.

The numbers must stay comparable with those that an index holds already. So a tower computes under autocast as it always
did, and only the weights that autocast would round are rounded before (`cast_products`): the same numbers, bit for
bit. Where a GPU computes a ViT of open_clip's own, autocast costs more than the weights: it takes each layer norm
to float32 and back in three passes over the activations, and keeps attention from PyTorch's fused path. There the whole
tower is cast (`cast_whole`); layer norm and softmax still compute in float32 inside their kernels, and embeddings stay
within a cosine of 0.9999 of those under autocast, which is what bfloat16 rounds anyway.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from qasir.vlm.open_clip_import import open_clip

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PRODUCTS = (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear, nn.Conv1d, nn.Conv2d)
"""What autocast rounds the weights of, and nothing else of. Not their subclasses, which may do more with a weight."""


@dataclass(frozen=True)
class Cast:
    """What a tower takes its pixels in, and whether it computes under autocast."""

    dtype: torch.dtype
    autocast: bool = False

    def computing(self, device: torch.device, precision: str) -> AbstractContextManager[object]:
        return torch.autocast(device.type, dtype=LOW[precision]) if self.autocast else nullcontext()


def cast(tower: nn.Module, precision: str, device: torch.device) -> Cast:
    """Cast a tower's weights in place, for "fp32", "bf16" or "fp16" on a device that it need not be on yet."""
    if precision == "fp32":
        return Cast(torch.float32)
    if device.type == "cuda" and isinstance(tower, open_clip.transformer.VisionTransformer):
        cast_whole(tower, LOW[precision])
        return Cast(LOW[precision])
    cast_products(tower, LOW[precision])
    return Cast(torch.float32, autocast=True)


def cast_whole(tower: nn.Module, dtype: torch.dtype) -> None:
    """All weights. Layer norms that take their input to float32 themselves keep theirs."""
    tower.to(dtype)
    for module in tower.modules():
        if isinstance(module, open_clip.transformer.LayerNormFp32):
            module.float()


def cast_products(tower: nn.Module, dtype: torch.dtype) -> None:
    """The weights that autocast would round: those of matrix products and convolutions.

    `in_proj_bias` stays: on a CPU, attention whose weights are all rounded takes a path with other numbers.
    """
    for weights in _products(tower):
        weights.data = weights.data.to(dtype)


def _products(tower: nn.Module) -> Iterator[nn.Parameter]:
    attention = (nn.MultiheadAttention, open_clip.transformer.Attention)
    for module in tower.modules():
        for name, weights in module.named_parameters(recurse=False):
            if (
                type(module) in _PRODUCTS
                or (name == "in_proj_weight" and isinstance(module, attention))
                or (name == "proj" and isinstance(module, open_clip.transformer.VisionTransformer))
            ):
                yield weights
