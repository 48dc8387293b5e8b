"""Where a model's weights come from: a tag, a hub, a folder, a checkpoint file, or the library itself.

`qasir-tiny` comes with the library: its open_clip config and weights lie in `qasir/vlm/packaged`, and nothing here
special-cases it beyond knowing where a packaged model's weights are.
"""

import difflib
import hashlib
import os
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from qasir.errors import ModelError
from qasir.files.readable import reason
from qasir.vlm.names import FOLDER, HUB, PACKAGED
from qasir.vlm.open_clip_import import open_clip

_SHA256 = "sha256:"


@dataclass(frozen=True)
class VlmSource:
    """Where a model comes from: `model` as open_clip names it, and a tag, a checkpoint path or PACKAGED.

    `pretrained` is empty for `hf-hub:` and `local-dir:` names, which bring their own weights. weights: the fingerprint
    of the only file that may be loaded; empty takes whatever is there.
    """

    model: str
    pretrained: str
    weights: str = ""

    @property
    def name(self) -> str:
        """What the weights are called: the tag, the path, or the hub's id or folder."""
        return self.pretrained or self.model

    @property
    def checkpoint(self) -> Path | None:
        """The weights file on this machine that a person or the library put there; None for those of a hub or a tag."""
        if self.pretrained == PACKAGED:
            return _packaged_weights(self.model)
        if self.model.startswith(FOLDER):
            return _folder_weights(self.model)
        if not self.pretrained or self._tag:
            return None
        return Path(self.pretrained) if Path(self.pretrained).is_file() else None

    def file(self) -> Path:
        """The weights file that open_clip loads here: of a hub or a tag, the one in its local cache, where it is put
        first if the hub has another. Raises ModelError when there is none."""
        if (path := self.checkpoint) is not None:
            return path
        try:
            if self.model.startswith(HUB):
                return Path(open_clip.pretrained.download_pretrained_from_hf(self.model.removeprefix(HUB)))
            if self._tag:
                return Path(open_clip.pretrained.download_pretrained(self._tag))
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"cannot get the weights {self.name!r} of {self.model!r}: {reason(error)}") from error
        raise ModelError(f"the weights {self.name!r} of {self.model!r} are not there")

    def fingerprint(self) -> str:
        """What identifies the weights: "sha256:" and the SHA-256 of `file`, about a second a gigabyte, once a process
        for a file that does not change. Raises ModelError."""
        path = self.file()
        try:
            about = os.stat(path)
            return f"{_SHA256}{_sha256_of(str(path), about.st_ino, about.st_size, about.st_mtime_ns)}"
        except OSError as error:
            raise ModelError(f"cannot read the weights {path}: {reason(error)}") from error

    def pinned(self, weights: str | None = None) -> "VlmSource":
        """The same, of which only weights with this fingerprint may be loaded, anywhere; those that are here now
        without one. A name, as older indexes hold it, pins nothing."""
        weights = self.fingerprint() if weights is None else weights
        return replace(self, weights=weights if is_hash(weights) else "")

    def check(self) -> None:
        """Raises ModelError when what is loaded here is not what it was pinned to."""
        if self.weights and (found := self.fingerprint()) != self.weights:
            raise ModelError(
                f"the weights {self.name!r} of {self.model!r} are not those they must be: {found} in {self.file()}, "
                f"{self.weights} wanted; put those back in that place, or encode into a new index"
            )

    @property
    def _tag(self) -> dict[str, Any]:
        """What open_clip knows of the tag; empty when `pretrained` is none."""
        found: dict[str, Any] = open_clip.pretrained.get_pretrained_cfg(self.model, self.pretrained)
        return found


def is_hash(weights: str) -> bool:
    """Whether a spec's `weights` says which file they are; older indexes have a tag's or a hub's name there."""
    return weights.startswith(_SHA256)


@lru_cache(maxsize=64)
def _sha256_of(path: str, inode: int, size: int, mtime_ns: int) -> str:
    """Of a file as it is; what comes after `path` says whether it still is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve(model: str, pretrained: str | None = None) -> VlmSource:
    """Check a model's name and weights before anything is built; of a tag and a file of one name the tag counts. Raises
    ModelError that says what exists."""
    register_packaged()
    if model.startswith(HUB):
        _no_pretrained(model, pretrained)
        return VlmSource(model, "")
    if model.startswith(FOLDER):
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
    if pretrained in open_clip.list_pretrained_tags_by_model(model):
        return VlmSource(model, pretrained)
    if Path(pretrained).is_file():
        return VlmSource(model, str(Path(pretrained).absolute()))
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
    folder = Path(model.removeprefix(FOLDER))
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
