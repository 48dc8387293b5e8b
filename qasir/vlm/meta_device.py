"""Makes and runs models on PyTorch's meta device, where tensors have shapes and no numbers, without importing the whole
of its compiler.

Many operations on that device are written in Python and marked as not to be compiled, which imports torch._dynamo the
first time that one is called: 1.2 s of a CPU for a model of which only the sizes are asked. Meanwhile a module stands
in for it that leaves functions as they are.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

_COMPILER = "torch._dynamo"
_KEPT_AS = "__dynamo_disable"
"""Where torch keeps, with a function, what the compiler made of it."""


class _NoCompiler(ModuleType):
    """Whatever else is asked of it is asked of the real one, which it makes way for."""

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        self._seen: list[Callable[..., Any]] = []

    def disable(self, fn: Callable[..., Any], recursive: bool = True, *, wrapping: bool = True) -> Callable[..., Any]:
        self._seen.append(fn)
        return fn

    def forget(self) -> None:
        """Have functions ask the compiler again."""
        for fn in self._seen:
            fn.__dict__.pop(_KEPT_AS, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {_COMPILER!r} has no attribute {name!r}")
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(import_module(_COMPILER), name)


@contextmanager
def meta_device() -> Iterator[None]:
    """What is made inside is made on the meta device."""
    stand_in = None if _COMPILER in sys.modules else _NoCompiler()
    if stand_in is not None:
        sys.modules[_COMPILER] = stand_in
    try:
        with torch.device("meta"):
            yield
    finally:
        if stand_in is not None:
            stand_in.forget()
            if sys.modules.get(_COMPILER) is stand_in:
                del sys.modules[_COMPILER]
