"""Vision-language models by name: any open_clip model, from a tag, a hub, a folder or a checkpoint file.

`qasir-tiny` is one of them: its open_clip config and weights lie in `qasir/vlm/packaged`, and nothing here special-cases it
beyond knowing where a packaged model's weights are.
"""

import difflib
import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

import qasir.vlm.torchvision_shim  # noqa: F401  (must come before open_clip)

import open_clip  # isort: skip
from open_clip.transformer import VisionTransformer  # isort: skip

from qasir.errors import ModelError, QueryError
from qasir.video.super_image import cell_overlap

log = logging.getLogger(__name__)

PACKAGED = "packaged"
"""The `pretrained` of a model whose weights come with the library."""
MAX_QUERY_CHARACTERS = 10_000
_TEXT_BATCH = 256
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    _register_packaged()
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


class Vlm:
    """An open_clip model ready to encode super images and text.

    precision: "fp32", "bf16" or "fp16", what the image tower computes in (outputs are always float32).
    image_size: pixels a side; another size than the model's own interpolates its position embeddings.
    """

    def __init__(
        self, source: VlmSource, *, image_size: int | None = None, precision: str = "fp32", device: str | None = None
    ) -> None:
        self.source = source
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = precision
        self._model = _build(source, image_size).to(self.device).eval()
        self._tokenizer = open_clip.get_tokenizer(source.model)
        tower = self._model.visual
        self.image_size = side_of(self._model)
        mean, std = (torch.tensor(tower.preprocess_cfg[name], device=self.device) for name in ("mean", "std"))
        self._scale = (1.0 / (255.0 * std)).view(1, 3, 1, 1)
        self._shift = (-mean / std).view(1, 3, 1, 1)
        self._pools: dict[int, Tensor] = {}
        self._told_of_cut = False

    @property
    def module(self) -> Any:
        """The open_clip model itself."""
        return self._model

    @property
    def pixel_scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of each channel that the model's pixels are normalised by."""
        config = self._model.visual.preprocess_cfg
        return tuple(config["mean"]), tuple(config["std"])

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(n, context) token ids."""
        return self._tokenizer(list(texts)).to(self.device)

    @property
    def embedding_dim(self) -> int:
        return len(self.encode_texts(["a"])[0])

    @property
    def gives_cells(self) -> bool:
        """Whether patch tokens can be projected like the class token: an open_clip ViT without an attention pooler."""
        return projects_patches(self._model.visual)

    def check_cells(self) -> None:
        if not self.gives_cells:
            raise no_cells(self.source)

    def encode_images(
        self, pixels: NDArray[np.uint8], *, grid: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Embeddings of super images, and with `grid` those of their cells.

        pixels (B, S, S, 3) uint8 RGB. Returns (B, D) and (B, N^2, D) or None, rows L2-normalised. A cell is the mean of
        the patch tokens that it overlaps, weighted by area, then projected and normalised like the class token.
        """
        tower = self._model.visual
        with torch.no_grad(), self._autocast():  # not inference_mode: autocast would cast the weights at every call
            images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2).float()
            images = images * self._scale + self._shift
            if grid is None:
                return _rows(F.normalize(_pooled(tower(images)).float(), dim=-1)), None
            self.check_cells()
            tower.output_tokens = True
            try:
                pooled, tokens = tower(images)
            finally:
                tower.output_tokens = False
            if tower.final_ln_after_pool:
                tokens = tower.ln_post(tokens)
            cell_tokens = self._cell_pool(grid) @ tokens.float()
            cell_embeddings = cell_tokens @ tower.proj.float()
        return _rows(F.normalize(pooled.float(), dim=-1)), _rows(F.normalize(cell_embeddings.float(), dim=-1))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) L2-normalised. Text past the model's context is cut off, as CLIP does, which is logged once.

        Raises QueryError if one is empty or too long to be a query.
        """
        for text in texts:
            check_query(text)
        batches = []
        with torch.no_grad():
            for start in range(0, len(texts), _TEXT_BATCH):
                tokens = self._tokenizer(list(texts[start : start + _TEXT_BATCH])).to(self.device)
                self._tell_of_cut(texts[start : start + _TEXT_BATCH], tokens)
                batches.append(F.normalize(self._model.encode_text(tokens).float(), dim=-1))
        return _rows(torch.cat(batches))

    def _tell_of_cut(self, texts: Sequence[str], tokens: Tensor) -> None:
        if self._told_of_cut:
            return
        full = (tokens != 0).all(dim=1).nonzero().flatten().tolist()  # padding is 0
        if full:
            self._told_of_cut = True
            log.warning(
                "queries are read up to %d tokens, and what is beyond is cut off: this one fills them all: %.60s...",
                tokens.shape[1],
                texts[full[0]],
            )

    def _autocast(self) -> Any:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_AUTOCAST[self.precision])

    def _cell_pool(self, grid: int) -> Tensor:
        if grid not in self._pools:
            weights = cell_overlap(self.image_size, grid, self._model.visual.grid_size[0])
            self._pools[grid] = torch.from_numpy(weights).to(self.device)
        return self._pools[grid]


def check_query(text: str) -> None:
    if not text.strip():
        raise QueryError('the query is empty: say what the moment shows, e.g. "a penguin and a pizza"')
    if len(text) > MAX_QUERY_CHARACTERS:
        raise QueryError(f"the query has {len(text):,} characters; the limit is {MAX_QUERY_CHARACTERS:,}")


def resolve_precision(precision: str, *, device_type: Callable[[], str] | None = None) -> str:
    """What "auto" means: bf16 on CUDA and on CPUs that compute it natively, else fp32.

    Elsewhere bfloat16 is emulated: measured 100 times slower than float32 on an AVX2 machine. device_type() is "cuda" or
    "cpu", asked only if it matters; without it, this machine decides.
    """
    if precision in ("fp32", "bf16"):
        return precision
    kind = device_type() if device_type else ("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        return "bf16" if kind == "cuda" or _cpu_has_bf16() else "fp32"
    if kind == "cpu":
        raise ModelError("precision fp16 needs a GPU: on a CPU choose fp32, bf16 or auto")
    return precision


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))


@cache
def _register_packaged() -> None:
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


def _build(source: VlmSource, image_size: int | None) -> Any:
    _register_packaged()
    pretrained = str(source.checkpoint or source.pretrained) if not source.model.startswith("local-dir:") else None
    try:
        model = open_clip.create_model(source.model, pretrained or None, require_pretrained=True, pretrained_text=False)
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


UNLOADABLE = (
    RuntimeError, ValueError, OSError, KeyError, AssertionError, EOFError, StopIteration, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip
"""What open_clip, torch and safetensors raise for a checkpoint that is damaged, empty, hostile or of another model."""


def cannot_load(source: VlmSource, image_size: int | None, error: BaseException) -> ModelError:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    size = f" at {image_size} px" if image_size is not None else ""
    return ModelError(f"cannot load {source.model!r} with {source.pretrained!r}{size}: {first_line}")


def projects_patches(tower: Any) -> bool:
    """Whether an image tower's patch tokens can be projected like its class token."""
    return (
        isinstance(tower, VisionTransformer)
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
    """The open_clip model without its numbers (on the meta device), to count what it costs. Nothing is read but its config.

    image_size: pixels a side; None is the model's own.
    """
    _register_packaged()
    with _not_told_of_random_weights(), torch.device("meta"):
        model = open_clip.create_model(
            source.model, force_image_size=image_size, load_weights=False, pretrained_text=False, device="meta"
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _not_told_of_random_weights() -> Iterator[None]:
    """open_clip warns, through the root logger, of a model with random weights; here they are wanted, or about to be replaced."""
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
    size = model.visual.image_size
    return int(size[0] if isinstance(size, tuple | list) else size)


def _pooled(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _rows(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.cpu().numpy()
