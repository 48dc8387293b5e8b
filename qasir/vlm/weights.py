"""Where a model's weights come from: a tag, a hub, a folder, a checkpoint file, or the library itself.

`qasir-tiny` comes with the library: its open_clip config and weights lie in `qasir/vlm/packaged`, and nothing here
special-cases it beyond knowing where a packaged model's weights are.
"""

import difflib
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import qasir.vlm.torchvision_shim  # noqa: F401  (must come before open_clip)

import open_clip  # isort: skip

from qasir.errors import ModelError

PACKAGED = "packaged"
"""The `pretrained` of a model whose weights come with the library."""


@dataclass(frozen=True)
class VlmSource:
    """Where a model comes from: `model` as open_clip names it, and a tag, a checkpoint path or PACKAGED.

    `pretrained` is empty for `hf-hub:` and `local-dir:` names, which bring their own weights.
    """

    model: str
    pretrained: str

    @property
    def checkpoint(self) -> Path | None:
        """The local weights file, if there is one."""
        if self.pretrained == PACKAGED:
            return _packaged_weights(self.model)
        if self.model.startswith("local-dir:"):
            return _folder_weights(self.model)
        return Path(self.pretrained) if Path(self.pretrained).is_file() else None

    def fingerprint(self) -> str:
        """What identifies the weights: a local file's SHA-256, else the tag or the hub's id."""
        path = self.checkpoint
        if path is None:
            return self.pretrained or self.model
        with open(path, "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def resolve(model: str, pretrained: str | None = None) -> VlmSource:
    """Check a model's name and weights before anything is built. Raises ModelError that says what exists."""
    register_packaged()
    if model.startswith("hf-hub:"):
        _no_pretrained(model, pretrained)
        return VlmSource(model, "")
    if model.startswith("local-dir:"):
        _no_pretrained(model, pretrained)
        _folder_weights(model)
        return VlmSource(model, "")
    known = open_clip.list_models()
    if model not in known:
        close = difflib.get_close_matches(model, known, n=5, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise ModelError(f"unknown model {model!r}: {hint}models are {', '.join(known)}")
    if pretrained is None or pretrained == PACKAGED:
        if _is_packaged(model):
            return VlmSource(model, PACKAGED)
        raise ModelError(f"model {model!r} needs --pretrained: {_tags(model)}, or the path of a checkpoint")
    if pretrained in open_clip.list_pretrained_tags_by_model(model) or Path(pretrained).is_file():
        return VlmSource(model, pretrained)
    raise ModelError(f"no weights {pretrained!r} for {model!r}: no such file, and {_tags(model)}")


@cache
def register_packaged() -> None:
    """Makes the packaged models known to open_clip by their names."""
    open_clip.add_model_config(Path(str(files("qasir.vlm") / "packaged")))


def _is_packaged(model: str) -> bool:
    return (Path(str(files("qasir.vlm") / "packaged")) / f"{model}.json").is_file()


def _packaged_weights(model: str) -> Path:
    path = Path(str(files("qasir.vlm") / "packaged")) / f"{model}.safetensors"
    if not path.is_file():
        raise ModelError(
            f"the packaged weights of {model!r} are missing at {path}: reinstall, or run jobs/train_packaged_vlm.py"
        )
    return path


def _folder_weights(model: str) -> Path:
    """open_clip gives random weights, and no error, for a folder without a weights file."""
    folder = Path(model.removeprefix("local-dir:"))
    if not (folder / "open_clip_config.json").is_file():
        raise ModelError(f"no open_clip_config.json in {folder}")
    found = open_clip.factory._find_checkpoint_in_dir(folder)
    if not found:
        raise ModelError(f"no weights file in {folder} (open_clip_model.safetensors or open_clip_pytorch_model.bin)")
    return Path(found)


def _no_pretrained(model: str, pretrained: str | None) -> None:
    if pretrained:
        raise ModelError(f"model {model!r} brings its own weights: leave out --pretrained {pretrained}")


def _tags(model: str) -> str:
    tags = open_clip.list_pretrained_tags_by_model(model)
    return f"its tags are {', '.join(tags)}" if tags else "it has no tags"
