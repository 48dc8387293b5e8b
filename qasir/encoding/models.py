"""The models that encode for a run's indexes, each loaded once a worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from qasir.index.spec import EncoderSpec
from qasir.vlm.flops import architecture_gflops
from qasir.vlm.image_tower import ImageTower
from qasir.vlm.weights import VlmSource

if TYPE_CHECKING:
    from qasir.index.index import Index  # imports Lance, for which encoding workers would wait

CPU_BATCH, GPU_BATCH, MOST_GPU_BATCH = 16, 128, 512
GPU_CALLS = 2
"""Batches that an encoder on a GPU has under way: while it computes one, the next is copied there, and the last one's
results are fetched and become rows."""
_GFLOPS_A_BATCH = 500
"""Ten seconds of a thread of a CPU: no encoder works alone for long on the last batch, and what is done is soon
committed."""
_GFLOPS_A_GPU_BATCH = 2500
"""From about here on a fast GPU's time is its arithmetic's and no longer that of starting its kernels, of which a small
model has as many."""


@dataclass(frozen=True)
class Target:
    """An index to write, and the model that encodes for it."""

    index: "Index"
    source: VlmSource


def load_models(
    sources: Sequence[VlmSource], specs: Sequence[EncoderSpec], threads: int | None = None
) -> list[ImageTower]:
    """Each index's image tower, one copy for all that share it. `threads` bounds what torch takes of a shared CPU.

    Raises ModelError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    loaded: dict[tuple[VlmSource, int, str], ImageTower] = {}
    keys = [(source, spec.image_size, spec.precision) for source, spec in zip(sources, specs, strict=True)]
    for source, image_size, precision in keys:
        if (source, image_size, precision) not in loaded:
            loaded[source, image_size, precision] = ImageTower.load(source, image_size=image_size, precision=precision)
    return [loaded[key] for key in keys]


def gflops_an_image(targets: Sequence[Target]) -> list[float]:
    """What encoding one super image costs, for each target."""
    return [architecture_gflops(target.source, target.index.spec.image_size) for target in targets]


def cpu_batch(images: Sequence[float], gflops: Sequence[float]) -> int:
    """How many super images an encoder on a CPU takes at once, so that it takes no longer than some seconds.

    images: about how many there are for each index; gflops: what one of them costs.
    """
    return max(1, min(CPU_BATCH, int(_GFLOPS_A_BATCH / _mean(images, gflops))))


def gpu_batch(images: Sequence[float], gflops: Sequence[float]) -> int:
    """How many super images an encoder on a GPU takes at once: more of a small model's, so that they keep it busy.

    images, gflops: as `cpu_batch` takes them.
    """
    return max(GPU_BATCH, min(MOST_GPU_BATCH, int(_GFLOPS_A_GPU_BATCH / _mean(images, gflops))))


def _mean(images: Sequence[float], gflops: Sequence[float]) -> float:
    """GFLOPs of an image."""
    return sum(count * each for count, each in zip(images, gflops, strict=True)) / sum(images)
