"""The last step of an open_clip model's text tower: from a token's hidden state to the space that pictures are in."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from qasir.errors import ModelError
from qasir.vlm.build import build
from qasir.vlm.weights import resolve

_BRINGS_WEIGHTS = ("hf-hub:", "local-dir:")


@lru_cache(maxsize=1)
def text_projection(name: str) -> NDArray[np.float32]:
    """(W, D) float32: hidden states (n, W) times it are embeddings, not normalised yet.

    name: MODEL:PRETRAINED, or the name of a model that needs no tag. Raises ModelError for a model that cannot be
    built, or that has no such matrix.
    """
    model, _, pretrained = (name, "", "") if name.startswith(_BRINGS_WEIGHTS) else name.partition(":")
    module = build(resolve(model, pretrained or None), None)
    projection = getattr(getattr(module, "text", module), "text_projection", None)
    if isinstance(projection, torch.nn.Linear) and projection.bias is None:
        projection = projection.weight.T
    if not isinstance(projection, torch.Tensor):
        raise ModelError(f"{name}: its text tower does not end in one matrix: use features that are projected already")
    return projection.detach().float().numpy()
