"""Pixels to a device and results from it. On a GPU both are copied beside its computing, through pinned memory."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Fetched = Callable[[], list[NDArray[np.float32]]]
"""Waits for results and gives them."""


class Transfer(Protocol):
    """Between this process's memory and a device's; several threads may share one."""

    def staged(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The same in memory that the device copies from."""
        ...

    def put(self, staged: Tensor) -> Tensor:
        """The same on the device, for the thread's current stream."""
        ...

    def fetch(self, results: Sequence[Tensor]) -> Fetched:
        """What gives them as arrays, when they are computed."""
        ...


class Direct:
    """To and from a CPU, which computes what it is asked before it goes on."""

    def staged(self, pixels: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def put(self, staged: Tensor) -> Tensor:
        return staged

    def fetch(self, results: Sequence[Tensor]) -> Fetched:
        arrays = [tensor.numpy() for tensor in results]
        return lambda: arrays


class Overlapped:
    """To and from a GPU, each way on a stream of its own.

    Pinned memory comes from PyTorch's allocator, which keeps it for the next batch and lends it again only when the
    copies that use it are done.
    """

    def __init__(self, device: torch.device) -> None:
        self._in, self._out = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def staged(self, pixels: NDArray[np.uint8]) -> Tensor:
        pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        return pinned.copy_(torch.from_numpy(np.ascontiguousarray(pixels)))

    def put(self, staged: Tensor) -> Tensor:
        with torch.cuda.stream(self._in):
            there = staged.to(self._in.device, non_blocking=True)
        computing = torch.cuda.current_stream(self._in.device)
        computing.wait_stream(self._in)
        there.record_stream(computing)
        return there

    def fetch(self, results: Sequence[Tensor]) -> Fetched:
        self._out.wait_stream(torch.cuda.current_stream(self._out.device))
        pinned = []
        with torch.cuda.stream(self._out):
            for tensor in results:
                tensor.record_stream(self._out)
                pinned.append(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True))
                pinned[-1].copy_(tensor, non_blocking=True)
            copied = torch.cuda.Event(blocking=True)  # waits without taking a CPU from the decoders
            copied.record(self._out)

        def wait() -> list[NDArray[np.float32]]:
            copied.synchronize()
            return [tensor.numpy() for tensor in pinned]

        return wait


def transfer_for(device: torch.device) -> Transfer:
    return Overlapped(device) if device.type == "cuda" else Direct()
