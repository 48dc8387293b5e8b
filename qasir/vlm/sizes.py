"""What is to be known of a model before it is loaded: its sizes, and whether its weights can be loaded at all."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from qasir.vlm.build import UNLOADABLE, architecture, cannot_load, no_cells, projects_patches, side_of
from qasir.vlm.meta_device import meta_device
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.weights import VlmSource

_NO_STATE_DICT = (".npz", ".npy")


@dataclass(frozen=True)
class ModelSizes:
    """image_size: pixels a side of its input; embedding_dim: D."""

    image_size: int
    embedding_dim: int


def model_sizes(source: VlmSource, image_size: int | None = None, *, cells: bool = False) -> ModelSizes:
    """Taken from the model without its numbers. image_size None is the model's own.

    Raises ModelError when a local checkpoint is damaged or of another model, as far as names and shapes show (its
    numbers are not read), when the model does not take the image size, and, with `cells`, when it cannot give cell
    embeddings.
    """
    try:
        own = architecture(source)
        _check_weights(source, own)
        model = own if image_size in (None, side_of(own)) else architecture(source, image_size)
        side = side_of(model)
        with torch.no_grad(), meta_device():
            dim = model.encode_image(torch.empty(1, 3, side, side)).shape[-1]
    except UNLOADABLE as error:
        raise cannot_load(source, image_size, error) from error
    if cells and not projects_patches(model.visual):
        raise no_cells(source)
    return ModelSizes(side, int(dim))


def _check_weights(source: VlmSource, model: Any) -> None:
    path = source.checkpoint
    if path is None or path.suffix in _NO_STATE_DICT:
        return
    device = "cpu" if path.suffix == ".safetensors" else "meta"  # safetensors' are mapped, and read where they are used
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*meta parameter")
        warnings.filterwarnings("ignore", message="Detected pickle protocol")  # the error that follows says enough
        open_clip.factory.load_checkpoint(model, str(path), device=device)
