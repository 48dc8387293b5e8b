"""GFLOPs of torch operations and of models, counted by PyTorch on the real modules. One multiply-add is 2 FLOPs; papers
often print half.

The counter does not see attention's fused path (ViT-B-32: 5.9 of 8.8 GFLOPs), so it is switched off while counting.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from qasir.vlm.build import architecture
from qasir.vlm.meta_device import meta_device
from qasir.vlm.model import Vlm
from qasir.vlm.weights import VlmSource


def counted(call: Callable[[], Any]) -> float:
    """GFLOPs of the torch operations of a call."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)
    return counter.get_total_flops() / 1e9


def image_gflops(vlm: Vlm, grid: int | None = None) -> float:
    """GFLOPs of encoding one super image; with `grid`, its cells too."""
    pixels = np.zeros((1, vlm.image_size, vlm.image_size, 3), np.uint8)
    return counted(lambda: vlm.encode_images(pixels, grid=grid))


def architecture_gflops(source: VlmSource, image_size: int) -> float:
    """GFLOPs of encoding one super image, without loading the model: half a second where `image_gflops` takes many."""
    model = architecture(source, image_size)
    with torch.no_grad(), meta_device():
        return counted(lambda: model.encode_image(torch.empty(1, 3, image_size, image_size)))
