"""An open_clip model built from where it comes from: with its weights, or without its numbers."""

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from qasir.errors import ModelError
from qasir.files.readable import reason
from qasir.vlm.meta_device import meta_device
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.weights import VlmSource, register_packaged


def build(source: VlmSource, image_size: int | None) -> Any:
    """The open_clip model with its weights. Raises ModelError when they cannot be loaded, or are others than those that
    the source is pinned to.

    image_size: pixels a side; None is the model's own.
    """
    register_packaged()
    pretrained = str(source.checkpoint or source.pretrained) if not source.model.startswith("local-dir:") else None
    try:
        model = open_clip.create_model(source.model, pretrained or None, require_pretrained=True, pretrained_text=False)
        source.check()  # afterwards: a repository that changed meanwhile is found out
        _check_numbers(model)
        if image_size is None or image_size == side_of(model):
            return model
        # Resized from the loaded float32 weights, not while loading: half-precision checkpoints cannot be interpolated.
        with _not_told_of_random_weights():
            resized = open_clip.create_model(
                source.model, pretrained or None, force_image_size=image_size, load_weights=False, pretrained_text=False
            )
        state = model.state_dict()
        open_clip.model.resize_pos_embed(state, resized)
        resized.load_state_dict(state)
        return resized
    except UNLOADABLE as error:
        raise cannot_load(source, image_size, error) from error


def _check_numbers(model: torch.nn.Module) -> None:
    """Raises ValueError that names the first weights with a number that is not finite."""
    for name, weights in model.named_parameters():
        # A sum is read once, and finite only of finite numbers; it may overflow, so that of others each is looked at.
        if not (torch.isfinite(weights.sum()) or torch.isfinite(weights).all()):
            raise ValueError(f"its {name} holds numbers that are not finite (NaN or infinite)")


UNLOADABLE = (
    RuntimeError, ValueError, OSError, LookupError, TypeError, AttributeError, AssertionError, EOFError, StopIteration,
    MemoryError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip
"""What open_clip, torch and safetensors raise for a checkpoint that is damaged, empty, hostile or of another model."""


def cannot_load(source: VlmSource, image_size: int | None, error: BaseException) -> ModelError:
    why = _NO_WEIGHTS if isinstance(error, pickle.UnpicklingError) else reason(error)
    size = f" at {image_size} px" if image_size is not None else ""
    return ModelError(f"cannot load {source.model!r} with {source.pretrained!r}{size}: {why}")


_NO_WEIGHTS = "it is damaged, or holds more than weights, code that would run here say: ask for a .safetensors file"


def projects_patches(tower: Any) -> bool:
    """Whether an image tower's patch tokens can be projected like its class token."""
    return (
        isinstance(tower, open_clip.transformer.VisionTransformer)
        and tower.attn_pool is None
        and tower.pool_type in ("tok", "avg")
        and tower.proj is not None
        and tower.grid_size[0] == tower.grid_size[1]
    )


def no_cells(source: VlmSource) -> ModelError:
    return ModelError(
        f"model {source.model!r} cannot give cell embeddings (its patch tokens have no projection into "
        "the joint space): pass --no-cells"
    )


def architecture(source: VlmSource, image_size: int | None = None) -> Any:
    """The open_clip model without its numbers (on the meta device), to count what it costs. Nothing is read but its
    config.

    image_size: pixels a side; None is the model's own.
    """
    register_packaged()
    with _not_told_of_random_weights(), meta_device():
        model = open_clip.create_model(
            source.model, force_image_size=image_size, load_weights=False, pretrained_text=False, device="meta"
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _not_told_of_random_weights() -> Iterator[None]:
    """open_clip warns, through the root logger, of a model with random weights; here they are wanted, or about to be
    replaced."""
    root = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return "initialized randomly" not in record.getMessage()

    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def side_of(model: Any) -> int:
    """Pixels a side of what an open_clip model takes."""
    return tower_side(model.visual)


def tower_side(tower: Any) -> int:
    """Pixels a side of what an image tower takes."""
    size = tower.image_size
    return int(size[0] if isinstance(size, tuple | list) else size)
