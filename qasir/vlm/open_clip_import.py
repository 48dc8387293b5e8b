"""Imports open_clip, without waiting for what it imports and hardly ever uses. Take it from here, in every process:

    from qasir.vlm.open_clip_import import open_clip

Imported plainly, open_clip brings the whole of torchvision and timm, and with either torch._dynamo; together they take
longer than torch itself. Of torchvision it takes the transforms and one class; of timm, a few names that it calls when
a model has a tower of timm's; of huggingface_hub, functions that it calls when it downloads. So, while open_clip is
being imported and only then:

- Torchvision and torchvision.ops are packages whose own code does not run (`_Unrun`). Their modules that open_clip
  takes are the real ones, as everybody's later. The package's code runs as soon as anything of it that is not there is
  asked for: an attribute, or another of its modules.
- The modules in `_CALLED` are stand-ins. What open_clip takes from them (`_Later`) imports the real module when it is
  first called, asked for an attribute, subclassed or compared with, and stands for what is found there. Nobody else
  sees them: afterwards `import timm` is timm.

What this process has imported already stays as it is. Where the package `transformers` is installed, which open_clip
imports and which looks for torchvision itself, and where anything at all goes wrong in this way, open_clip is imported
plainly.

Torchvision's own code dies beside a CPU-only torch where it is a build for CUDA, as the registry's is, for want of two
operators that open_clip never calls. They are declared then (`_with_operators`).
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

_UNRUN = ("torchvision", "torchvision.ops")
_CALLED = ("timm", "huggingface_hub", "open_clip.push_to_hf_hub")
"""Modules, with those below them, of which open_clip only calls functions and classes, and seldom."""
_OPERATORS = ("torchvision::nms", "torchvision::qnms")
_OPERATOR_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _Unrun(ModuleType):
    """A package whose own code runs when something of it is asked for that is not there."""

    _qasir_loader: Loader

    def __getattr__(self, name: str) -> Any:
        _finish(self)
        return ModuleType.__getattribute__(self, name)


class _NotRunning(Loader):
    """Makes a package and runs nothing of it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Unrun(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader
        module._qasir_loader = self._loader  # type: ignore[attr-defined]


def _finish(package: _Unrun) -> None:
    """Run a package's own code, unless it has run or is running; first that of the package it is in, as always."""
    if "_qasir_loader" not in package.__dict__:
        return
    around = sys.modules.get(package.__name__.rpartition(".")[0])
    if isinstance(around, _Unrun):
        _finish(around)  # which may run this one's too
    loader = package.__dict__.pop("_qasir_loader", None)
    if loader is None:
        return
    assert package.__spec__ is not None
    package.__path__ = package.__spec__.submodule_search_locations or []
    try:
        _with_operators(lambda: loader.exec_module(package))
    except BaseException:
        package._qasir_loader = loader  # the next who asks is told too
        raise


def _with_operators(run: Callable[[], Any]) -> None:
    """Call something that imports torchvision; again, where it dies for want of its operators, with these declared."""
    try:
        run()
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for operator in _OPERATORS:
            torch.library.define(operator, _OPERATOR_SCHEMA)
        run()


class _Later:
    """Stands for a name of a module that is imported when it is used."""

    def __init__(self, module: str, name: str) -> None:
        self._qasir_place = (module, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _found(self)(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(_found(self), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_found(self),)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, _found(self))

    def __subclasscheck__(self, kind: type) -> bool:
        return issubclass(kind, _found(self))


def _found(later: _Later) -> Any:
    module, name = later._qasir_place
    return getattr(import_module(module), name)


class _StandIn(ModuleType):
    """A module whose names are all for later."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _Later(self.__name__, name)


class _StandingIn(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Sparing(MetaPathFinder):
    """Finds packages whose code does not run, and stand-ins for what is installed."""

    def __init__(self) -> None:
        self._real = {name for name in _CALLED if name in sys.modules}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in _UNRUN:
            spec = PathFinder.find_spec(name, path)
            if spec is not None and spec.loader is not None:
                spec.loader = _NotRunning(spec.loader)
            return spec
        owner = _called(name)
        if owner is None or owner in self._real:
            return None
        if name == owner and PathFinder.find_spec(name, path) is None:
            return None
        return ModuleSpec(name, _StandingIn(), is_package=True)


def _called(name: str) -> str | None:
    return next((owner for owner in _CALLED if name == owner or name.startswith(f"{owner}.")), None)


def _import() -> ModuleType:
    if "open_clip" in sys.modules or find_spec("transformers") is not None:
        return _plainly()
    before = set(sys.modules.copy())
    finder = _Sparing()
    sys.meta_path.insert(0, finder)
    try:
        module = import_module("open_clip")
    except Exception:
        for name in set(sys.modules.copy()) - before:
            if name.partition(".")[0] in ("open_clip", "torchvision"):
                del sys.modules[name]
        module = None
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, one in sys.modules.copy().items() if isinstance(one, _StandIn)]:
            del sys.modules[name]
        for name in _UNRUN:
            if isinstance(package := sys.modules.get(name), _Unrun):
                package.__dict__.pop("__path__", None)  # whoever imports another module of it asks for this first
    return _plainly() if module is None else module


def _plainly() -> ModuleType:
    _with_operators(lambda: import_module("torchvision"))
    return import_module("open_clip")


open_clip: Any = _import()
