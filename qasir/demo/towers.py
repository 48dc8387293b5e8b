"""The two towers of a packaged VLM: built from an open_clip config, run on windows and on compact texts, and written
for open_clip."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qasir.vlm.open_clip_import import open_clip  # isort: skip
from open_clip import CLIP, SimpleTokenizer  # isort: skip
from safetensors.torch import save  # isort: skip

from qasir.errors import ModelError
from qasir.files.whole import write_bytes, write_whole


def packaged_config() -> dict[str, Any]:
    """The open_clip config of `qasir-tiny`."""
    return json.loads((files("qasir.vlm") / "packaged" / "qasir-tiny.json").read_text(encoding="utf-8"))


def model_config(path: Path) -> dict[str, Any]:
    """An open_clip model config from a file. Raises ModelError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no open_clip model config: {error}") from None
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise ModelError(f"{path} is no open_clip model config: it needs embed_dim, vision_cfg and text_cfg")
    return config


def build_model(config: dict[str, Any], seed: int) -> CLIP:
    """One to train from nothing."""
    torch.manual_seed(seed)
    model = CLIP(**config)
    tower = model.visual
    with torch.no_grad():
        tower.positional_embedding.mul_(0.3)
        for block in (*tower.transformer.resblocks, *model.transformer.resblocks):
            block.attn.out_proj.weight.mul_(0.5)
            block.mlp.c_proj.weight.mul_(0.5)
    return model


class CompactVocabulary:
    """Trains only the token rows that occur; the rest of the table stays zero and compresses away."""

    def __init__(self, model: CLIP, tokenizer: SimpleTokenizer, texts: list[str]) -> None:
        self.tokenizer = tokenizer
        used = torch.unique(tokenizer(texts))
        self.rows = used
        self.compact = torch.zeros(model.token_embedding.num_embeddings, dtype=torch.long)
        self.compact[used] = torch.arange(len(used))
        self.full_size = model.token_embedding.num_embeddings
        width = model.token_embedding.embedding_dim
        model.token_embedding = nn.Embedding(len(used), width)
        nn.init.normal_(model.token_embedding.weight, std=0.1)

    def encode(self, model: CLIP, texts: list[str]) -> Tensor:
        """(n, D) normalised; positions past the longest text are not computed (attention is causal, so none is
        missed)."""
        tokens = self.tokenizer(texts)
        end = tokens.argmax(dim=-1)
        length = int(end.max()) + 1
        x = model.token_embedding(self.compact[tokens[:, :length]]) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        x = model.ln_final(x)[torch.arange(len(texts)), end]
        return F.normalize(x @ model.text_projection, dim=-1)

    def expanded(self, model: CLIP) -> Tensor:
        table = torch.zeros(self.full_size, model.token_embedding.embedding_dim)
        table[self.rows] = model.token_embedding.weight.detach()
        return table


def encode_window(model: CLIP, images: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Class and patch embeddings of the patches of one window of the grid.

    images (B, 3, w*p, w*p) normalised. Returns ((B, D), (B, w*w, D)), both normalised.
    """
    tower = model.visual
    x = tower.conv1(images)
    w = x.shape[-1]
    x = x.flatten(2).transpose(1, 2)
    rows, columns = tower.grid_size
    grid = tower.positional_embedding[1:].reshape(rows, columns, -1)
    top, left = window
    x = x + grid[top : top + w, left : left + w].reshape(1, w * w, -1)
    first = (tower.class_embedding + tower.positional_embedding[0]).expand(len(x), 1, -1)
    x = tower.transformer(tower.ln_pre(torch.cat([first, x], dim=1)))
    x = F.normalize(tower.ln_post(x) @ tower.proj, dim=-1)
    return x[:, 0], x[:, 1:]


def export(model: CLIP, vocabulary: CompactVocabulary, path: Path) -> None:
    """Write an open_clip checkpoint: half-precision safetensors with the whole token table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach() for name, value in model.state_dict().items() if name != "attn_mask"}
    state["token_embedding.weight"] = vocabulary.expanded(model)
    half = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
    write_bytes(path, save(half))


def export_folder(model: CLIP, vocabulary: CompactVocabulary, config: dict[str, Any], folder: Path) -> None:
    """Write a folder that open_clip loads as `local-dir:FOLDER`."""
    export(model, vocabulary, folder / "open_clip_model.safetensors")
    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    write_whole(folder / "open_clip_config.json", json.dumps(described, indent=2) + "\n")
