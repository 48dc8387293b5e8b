"""Other ways to compute an image tower than the library's own, to be measured beside it.

All take images (B, 3, S, S) that lie on the device, in the tower's precision and normalised, unless they say otherwise.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from qasir.video.super_image import cell_overlap
from qasir.vlm.casting import LOW, cast_products, cast_whole

Forward = Callable[[Tensor], Tensor]


def dtype_of(precision: str) -> torch.dtype:
    return LOW.get(precision, torch.float32)


def as_cast(origin: nn.Module, how: str, precision: str) -> Any:
    """A copy of a float32 tower: "kept" as it is, its "products" cast, or the "whole"."""
    tower = copy.deepcopy(origin)
    if precision != "fp32" and how != "kept":
        {"products": cast_products, "whole": cast_whole}[how](tower, LOW[precision])
    return tower


@dataclass(frozen=True)
class Synchronous:
    """`ImageTower.encode_images` as it was before its weights were cast once: pixels in pageable memory, three passes
    to normalise them, autocast, and results that are waited for. weights: as `as_cast` takes it; "whole" runs without
    autocast, one_pass normalises in one."""

    tower: Any
    weights: str
    precision: str
    device: torch.device
    one_pass: bool = False
    pools: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, pixels: NDArray[np.uint8], grid: int | None) -> list[NDArray[np.float32]]:
        autocast = self.precision != "fp32" and self.weights != "whole"
        with torch.no_grad(), torch.autocast(self.device.type, dtype_of(self.precision), enabled=autocast):
            images = self._normalised(torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2))
            results = self._results(images, grid)
        return [F.normalize(each.float(), dim=-1).cpu().numpy() for each in results]

    def _normalised(self, images: Tensor) -> Tensor:
        scale, shift = self._pixel_scale
        if self.one_pass:
            rows = images.permute(0, 2, 3, 1).flatten(2)
            row_scale, row_shift = (each.flatten().repeat(images.shape[-1]) for each in (scale, shift))
            out = torch.empty_like(rows, dtype=dtype_of(self.precision))
            torch.addcmul(row_shift, rows, row_scale, out=out)
            return out.view(images.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        return (images.float() * scale + shift).to(
            dtype_of(self.precision) if self.weights == "whole" else torch.float32
        )

    @cached_property
    def _pixel_scale(self) -> tuple[Tensor, Tensor]:
        config = self.tower.preprocess_cfg
        mean, std = (torch.tensor(config[name], device=self.device).view(1, 3, 1, 1) for name in ("mean", "std"))
        return 1.0 / (255.0 * std), -mean / std

    def _results(self, images: Tensor, grid: int | None) -> list[Tensor]:
        if grid is None:
            return [self.tower(images)]
        with giving_tokens(self.tower):
            pooled, tokens = self.tower(images)
        pool = self._pool(grid)
        if self.weights == "whole":
            return [pooled, (pool.to(tokens.dtype) @ tokens) @ self.tower.proj]
        return [pooled, (pool @ tokens.float()) @ self.tower.proj.float()]

    def _pool(self, grid: int) -> Tensor:
        if grid not in self.pools:
            weights = cell_overlap(self.tower.image_size[0], grid, self.tower.grid_size[0])
            self.pools[grid] = torch.from_numpy(weights).to(self.device)
        return self.pools[grid]


@contextmanager
def giving_tokens(tower: Any) -> Iterator[None]:
    tower.output_tokens = True
    try:
        yield
    finally:
        tower.output_tokens = False


def forwards(origin: nn.Module, precision: str, device: torch.device) -> dict[str, Callable[[], Forward]]:
    """{what it is: what makes it}, the dearest to start last. Making one may take minutes or fail."""
    ways: dict[str, Callable[[], Forward]] = {
        "autocast, weights kept": lambda: _autocast(as_cast(origin, "kept", precision), precision, device),
        "autocast, weights cast": lambda: _autocast(as_cast(origin, "products", precision), precision, device),
        "whole cast": lambda: _plain(as_cast(origin, "whole", precision)),
        "whole cast, no fused attention": lambda: _without_fast_path(as_cast(origin, "whole", precision)),
        "whole cast, channels last": lambda: _channels_last(as_cast(origin, "whole", precision)),
        "whole cast, channels first": lambda: _channels_first(as_cast(origin, "whole", precision)),
    }
    if precision == "fp32":
        ways = {name: ways[name] for name in ways if name.startswith("whole")}
        ways["whole cast, TF32"] = lambda: _tf32(as_cast(origin, "whole", precision))
    if device.type == "cuda":
        ways["whole cast, CUDA graph"] = lambda: _graphed(as_cast(origin, "whole", precision))
        ways["blocks compiled"] = lambda: _blocks_compiled(as_cast(origin, "whole", precision), "default")
        ways["blocks compiled, CUDA graph"] = lambda: _graphed(
            _with_blocks_compiled(as_cast(origin, "whole", precision), "default")
        )
        ways["blocks compiled, max-autotune"] = lambda: _blocks_compiled(
            as_cast(origin, "whole", precision), "max-autotune-no-cudagraphs"
        )
        ways["all compiled"] = lambda: _plain(torch.compile(as_cast(origin, "whole", precision)))
    return ways


COMPILED = ("blocks compiled", "all compiled")
"""How the names of those begin that are compiled first."""


def _plain(tower: Any) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.no_grad():
            return tower(images)

    return forward


def _autocast(tower: Any, precision: str, device: torch.device) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, dtype_of(precision)):
            return tower(images)

    return forward


def _without_fast_path(tower: Any) -> Forward:
    forward = _plain(tower)

    def without(images: Tensor) -> Tensor:
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            return forward(images)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    return without


def _channels_last(tower: Any) -> Forward:
    forward = _plain(tower.to(memory_format=torch.channels_last))
    return lambda images: forward(images.contiguous(memory_format=torch.channels_last))


def _channels_first(tower: Any) -> Forward:
    forward = _plain(tower)
    return lambda images: forward(images.contiguous())


def _tf32(tower: Any) -> Forward:
    forward = _plain(tower)

    def with_tf32(images: Tensor) -> Tensor:
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return forward(images)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    return with_tf32


def _with_blocks_compiled(tower: Any, mode: str) -> Any:
    """Each residual block compiled by itself: they are alike, so one is compiled."""
    for block in tower.transformer.resblocks:
        block.compile(mode=mode)
    return tower


def _blocks_compiled(tower: Any, mode: str) -> Forward:
    return _plain(_with_blocks_compiled(tower, mode))


def _graphed(tower: Any) -> Forward:
    """Captured once for each size of batch."""
    forward = _plain(tower)
    captured: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def replay(images: Tensor) -> Tensor:
        if images.shape not in captured:
            captured[images.shape] = _capture(forward, images)
        graph, given, result = captured[images.shape]
        given.copy_(images)
        graph.replay()
        return result

    return replay


def _capture(forward: Forward, images: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
    given = images.clone()
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            forward(given)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = forward(given)
    return graph, given, result
