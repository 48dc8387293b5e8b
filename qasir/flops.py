"""What encoding and scoring cost, counted by PyTorch on the real modules. One multiply-add is 2 FLOPs; papers often print half.

The counter does not see attention's fused path (ViT-B-32: 5.9 of 8.8 GFLOPs), so it is switched off while counting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from qasir.features import Features
from qasir.hybrid import Cascade, Fusion, HybridSearcher
from qasir.scoring import Scoring
from qasir.search import IndexSearcher, Searcher
from qasir.vlm import Vlm, VlmSource, architecture


@dataclass(frozen=True)
class Cost:
    """GFLOPs: encoding one video of average length, and answering one query (its text and scoring the corpus)."""

    encoding_per_video: float
    scoring_per_query: float

    @property
    def total(self) -> float:
        return self.encoding_per_video + self.scoring_per_query


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
    with torch.no_grad():
        return counted(lambda: model.encode_image(torch.empty(1, 3, image_size, image_size, device="meta")))


def cost(searcher: Searcher[Any], method: Any, text: str = "a penguin") -> Cost:
    """What a method costs on an index or two. In a cascade both models encode every video, since both indexes are there."""
    if isinstance(searcher, HybridSearcher):
        assert isinstance(method, Fusion | Cascade)
        large, small = cost(searcher.large, method.large, text), cost(searcher.small, method.small, text)
        _forget(searcher.large, searcher.small)
        scoring = counted(lambda: searcher.score([text], method))
        return Cost(large.encoding_per_video + small.encoding_per_video, scoring)
    assert isinstance(searcher, IndexSearcher)
    spec = searcher.index.spec
    n_images = searcher.videos.n_super_images
    if isinstance(method, Scoring) and method.sparse_grid:
        n_images = -(-n_images // method.sparse_grid**2)
    each = image_gflops(searcher.vlm, spec.grid if spec.cells else None)
    tuning = video_side_gflops(searcher, round(float(n_images.mean())))
    _forget(searcher)
    return Cost(float(n_images.mean()) * each + tuning, counted(lambda: searcher.score([text], method)))


def video_side_gflops(searcher: IndexSearcher, n_images: int) -> float:
    """GFLOPs of a fine-tuned checkpoint on the super images of one video; 0 without one."""
    if searcher.finetuned is None:
        return 0.0
    model = searcher.finetuned.model
    one = Features(np.zeros(1, np.int64), np.array([n_images]), np.ones((n_images, model.dim), np.float32))
    return counted(lambda: model.video_vectors(one))


def _forget(*searchers: IndexSearcher) -> None:
    """Texts already encoded would not be counted."""
    for searcher in searchers:
        searcher.forget_texts()
