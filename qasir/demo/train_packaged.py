"""Trains `qasir-tiny`, the packaged VLM, from nothing, on single rendered scenes.

Four losses around one learned prototype per class (sprite names and backgrounds) in the joint space; with prototypes the
image tower has far-apart targets from the first step, which a text tower that starts from nothing cannot give it:
- scene: the class token against the prototypes; the target is uniform over what the scene holds;
- patch: labelled patch tokens, projected like the class token, against the prototypes;
- text: the plain text of a class against the prototypes;
- caption: InfoNCE in both directions between scenes and captions of one or two of their names, where a caption that
  happens to fit another scene of the batch is not a negative.
Only the two towers are kept.

Most scenes are painted into a random square window of the model's patch grid and only that window's patches are
computed (token dropping, as in FLIP, arXiv 2212.00794): small sprites everywhere in the image cost a fraction of it.
Hidden matrices are trained by Muon, the rest by AdamW; the learning rate warms up, stays, and decays linearly.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import qasir.vlm.torchvision_shim  # noqa: F401  (before open_clip)

import open_clip  # isort: skip
from open_clip import CLIP, SimpleTokenizer  # isort: skip
from safetensors.torch import save_file  # isort: skip

from qasir.demo.muon import Muon
from qasir.demo.scenes import Scene, ScenePainter, SceneStyle
from qasir.demo.sprites import BACKGROUNDS, background_phrase, load_sprites, noun_phrase
from qasir.errors import ModelError
from qasir.files.whole import write_whole

log = logging.getLogger(__name__)

_PREFIXES = ("", "", "", "a video of ", "a picture of ", "a photo of ", "a scene with ", "there is ")
_LOG_EVERY = 50
_JOINS = (" and ", " and ", " with ", " next to ", " beside ", ", ")


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast. `steps` batches; `tokens` patches a batch, whatever the window's size;
    `texts` class texts and at most `captions` captions a batch."""

    steps: int = 4600
    tokens: int = 3072
    muon_lr: float = 0.02
    adam_lr: float = 1e-3
    warmup_steps: int = 60
    decay_fraction: float = 0.5
    weight_decay: float = 0.05
    patch_weight: float = 0.5
    text_weight: float = 0.5
    caption_weight: float = 0.5
    texts: int = 96
    captions: int = 64
    seed: int = 0


@dataclass(frozen=True)
class SceneBatch:
    """images (B, 3, w*p, w*p) uint8; targets (B, classes) rows summing to 1; patches (B, w*w) class or -1;
    window (row, column) of the first patch in the model's grid; captions, and fits[i, j] = caption j fits scene i."""

    images: Tensor
    targets: Tensor
    patches: Tensor
    window: tuple[int, int]
    captions: list[str]
    fits: Tensor


def class_texts() -> list[str]:
    """The plain text of every class: sprites first, then backgrounds."""
    return [noun_phrase(name) for name in load_sprites().names] + [background_phrase(name) for name in BACKGROUNDS]


class SceneBatches(IterableDataset[SceneBatch]):
    """Batch `k` of a seed is the same wherever and whenever it is made, so training can resume at any step."""

    def __init__(self, plan: TrainingPlan, *, grid: int, patch: int, first_step: int = 0) -> None:
        self.plan, self.grid, self.patch, self.first_step = plan, grid, patch, first_step

    def __iter__(self) -> Iterator[SceneBatch]:
        torch.set_num_threads(1)
        painter = ScenePainter(load_sprites(), patch=self.patch)
        for step in range(self.first_step, self.plan.steps):
            yield self._batch(painter, np.random.default_rng([self.plan.seed, step]), step / self.plan.steps)

    def _batch(self, painter: ScenePainter, rng: np.random.Generator, progress: float) -> SceneBatch:
        windows = [w for w in (4, 6, 8, 12) if w <= self.grid]
        early, late = np.array([0.55, 0.25, 0.12, 0.08]), np.array([0.25, 0.2, 0.15, 0.4])
        share = early + (late - early) * min(1.0, progress / 0.6)
        share = share[: len(windows)] / share[: len(windows)].sum()
        window = int(rng.choice(windows, p=share))
        side = window * self.patch
        # Small sprites come in over the first tenth: with nothing else from the start a model learns colours only.
        smallest = 30.0 + (14.0 - 30.0) * min(1.0, progress / 0.1)
        style = SceneStyle(
            side=side,
            min_height=smallest,
            max_height=min(0.85 * side, 130.0),
            kinds=max(1, window // 3),
            copies=1 if window == 4 else window // 2,
        )
        scenes = [painter.paint(rng, style) for _ in range(self.plan.tokens // window**2)]
        return self._collate(rng, scenes, painter.n_sprites, window)

    def _collate(self, rng: np.random.Generator, scenes: list[Scene], n_sprites: int, window: int) -> SceneBatch:
        names, backgrounds = load_sprites().names, list(BACKGROUNDS)
        holds = np.zeros((len(scenes), n_sprites + len(backgrounds)), dtype=bool)
        asked = np.zeros_like(holds)
        captions = []
        for i, scene in enumerate(scenes):
            holds[i, list(scene.sprites)] = True
            if scene.background is not None:
                holds[i, n_sprites + scene.background] = True
            shown = rng.permutation(np.array(scene.sprites, dtype=int))[: rng.integers(1, 3)]
            asked[i, shown] = True
            text = str(rng.choice(_JOINS)).join(
                noun_phrase(names[s]) if rng.random() < 0.85 else names[s] for s in shown
            )
            if scene.background is not None and (rng.random() < 0.3 or not len(shown)):
                asked[i, n_sprites + scene.background] = True
                text = f"{text} {background_phrase(backgrounds[scene.background])}"
            captions.append(f"{rng.choice(_PREFIXES)}{text}".strip())
        weight = np.where(np.arange(holds.shape[1]) < n_sprites, 1.0, 0.3) * holds
        total = weight.sum(1, keepdims=True)
        row, column = rng.integers(0, self.grid - window + 1, size=2)
        return SceneBatch(
            images=torch.from_numpy(np.stack([s.image for s in scenes]).transpose(0, 3, 1, 2).copy()),
            targets=torch.from_numpy((weight / np.maximum(total, 1e-9)).astype(np.float32)),
            patches=torch.from_numpy(np.stack([s.patches.ravel() for s in scenes])),
            window=(int(row), int(column)),
            captions=captions,
            fits=torch.from_numpy(_fits(asked, holds)),
        )


def _fits(asked: NDArray[np.bool_], holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """fits[i, j]: scene i holds everything caption j asks for."""
    missing = (~holds).astype(np.float32) @ asked.astype(np.float32).T
    return missing < 0.5


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
        """(n, D) normalised; positions past the longest text are not computed (attention is causal, so none is missed)."""
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


def build_model(config: dict[str, Any]) -> CLIP:
    torch.manual_seed(0)
    model = CLIP(**config)
    tower = model.visual
    with torch.no_grad():
        tower.positional_embedding.mul_(0.3)
        for block in (*tower.transformer.resblocks, *model.transformer.resblocks):
            block.attn.out_proj.weight.mul_(0.5)
            block.mlp.c_proj.weight.mul_(0.5)
    return model


class Trainer:
    """One model, its optimisers and its place in the plan; `save` and `resume` carry all three."""

    def __init__(self, plan: TrainingPlan, config: dict[str, Any]) -> None:
        self.plan = plan
        self.config = config
        self.model = build_model(config)
        tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
        # The words of the templates, and of the queries people type around them.
        self.classes = class_texts()
        extra = [
            *_PREFIXES,
            *_JOINS,
            "an the on in of at to is are moving across background video some two",
            *load_sprites().names,
            *(f"a {n} an {n} the {n}" for n in BACKGROUNDS),
        ]
        self.vocabulary = CompactVocabulary(self.model, tokenizer, [*self.classes, *extra])
        width = config["embed_dim"]
        self.prototypes = nn.Parameter(F.normalize(torch.randn(len(self.classes), width), dim=-1))
        self.patch_scale = nn.Parameter(torch.tensor(np.log(16.0), dtype=torch.float32))
        with torch.no_grad():
            self.model.logit_scale.fill_(float(np.log(16.0)))
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) * 255.0 for v in (mean, std))
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = [self.patch_scale, self.prototypes]
        for name, parameter in self.model.named_parameters():
            hidden = parameter.ndim == 2 and ".resblocks." in name
            (matrices if hidden else rest).append(parameter)
        decayed = [p for p in rest if p.ndim >= 2]
        plain = [p for p in rest if p.ndim < 2]
        self.muon = Muon(matrices, lr=plan.muon_lr, weight_decay=plan.weight_decay)
        self.adam = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
            lr=plan.adam_lr,
            betas=(0.9, 0.98),
        )
        self.step = 0
        self.history: list[dict[str, float]] = []

    def learning_rate(self, step: int) -> float:
        """Share of the peak rate: linear warm-up, constant, linear decay to 1 %."""
        warm = min(1.0, (step + 1) / self.plan.warmup_steps)
        left = (self.plan.steps - step) / (self.plan.decay_fraction * self.plan.steps)
        return warm * max(0.01, min(1.0, left))

    def train_step(self, batch: SceneBatch) -> dict[str, float]:
        share = self.learning_rate(self.step)
        for group in self.muon.param_groups:
            group["lr"] = self.plan.muon_lr * share
        for group in self.adam.param_groups:
            group["lr"] = self.plan.adam_lr * share
        losses = self._losses(batch, torch.Generator().manual_seed(self.plan.seed * 1_000_003 + self.step))
        weights = {"patch": self.plan.patch_weight, "text": self.plan.text_weight, "caption": self.plan.caption_weight}
        total = losses["scene"] + sum(weight * losses[name] for name, weight in weights.items())
        self.adam.zero_grad()
        self.muon.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_([p for g in self.adam.param_groups for p in g["params"]], 1.0)
        self.adam.step()
        self.muon.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=float(np.log(100.0)))
            self.patch_scale.clamp_(max=float(np.log(100.0)))
        self.step += 1
        return {name: value.item() for name, value in losses.items()}

    def _losses(self, batch: SceneBatch, draws: torch.Generator) -> dict[str, Tensor]:
        images = (batch.images.float() - self.mean) / self.std
        scene, patches = encode_window(self.model, images, batch.window)
        prototypes = F.normalize(self.prototypes, dim=-1)
        some = torch.randperm(len(self.classes), generator=draws)[: self.plan.texts]
        texts = self.vocabulary.encode(self.model, [self.classes[i] for i in some])
        asked = slice(0, self.plan.captions)
        captions = self.vocabulary.encode(self.model, batch.captions[asked])
        scale = self.model.logit_scale.exp()
        logits = scale * scene @ prototypes.T
        known = batch.targets.sum(1) > 0
        scene_loss = -(batch.targets * logits.log_softmax(-1)).sum(1)[known].mean()
        # Background patches are the many and the easy: as many of them as of the others are enough.
        label = batch.patches.flatten()
        n_sprites = len(self.classes) - len(BACKGROUNDS)
        on_sprite = (label >= 0) & (label < n_sprites)
        on_background = (label >= n_sprites).nonzero()[:, 0]
        on_background = on_background[torch.randperm(len(on_background), generator=draws)[: int(on_sprite.sum()) // 2]]
        chosen = torch.cat([on_sprite.nonzero()[:, 0], on_background])
        patch_logits = self.patch_scale.exp() * patches.flatten(0, 1)[chosen] @ prototypes.T
        similarity = scale * scene[asked] @ captions.T
        with torch.no_grad():
            top = logits[:, :n_sprites].argmax(1)
            hit = (batch.targets[torch.arange(len(top)), top] > 0).float().mean()
            patch_hit = (patch_logits.argmax(1) == label[chosen])[: int(on_sprite.sum())].float().mean()
        return {
            "scene": scene_loss,
            "patch": F.cross_entropy(patch_logits, label[chosen]),
            "text": F.cross_entropy(scale * texts @ prototypes.T, some),
            "caption": _caption_loss(similarity, batch.fits[asked, asked]),
            "hit": hit,
            "patch_hit": patch_hit,
        }

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "history": self.history,
            "model": self.model.state_dict(),
            "patch_scale": self.patch_scale.data,
            "prototypes": self.prototypes.data,
            "adam": self.adam.state_dict(),
            "muon": self.muon.state_dict(),
        }
        partial = folder / "trainer.pt.partial"
        torch.save(state, partial)
        os.replace(partial, folder / "trainer.pt")

    def resume(self, folder: Path) -> bool:
        path = folder / "trainer.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.muon.load_state_dict(state["muon"])
        self.patch_scale.data.copy_(state["patch_scale"])
        self.prototypes.data.copy_(state["prototypes"])
        self.step, self.history = state["step"], state["history"]
        return True

    def export(self, path: Path) -> None:
        """Write an open_clip checkpoint: half-precision safetensors with the whole token table."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach() for name, value in self.model.state_dict().items() if name != "attn_mask"}
        state["token_embedding.weight"] = self.vocabulary.expanded(self.model)
        half = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
        partial = path.with_suffix(".partial")
        save_file(half, partial)
        os.replace(partial, path)

    def export_folder(self, folder: Path) -> None:
        """Write a folder that open_clip loads as `local-dir:FOLDER`."""
        self.export(folder / "open_clip_model.safetensors")
        write_whole(folder / "open_clip_config.json", _folder_config(self.config))


def _folder_config(config: dict[str, Any]) -> str:
    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    return json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2) + "\n"


def _caption_loss(similarity: Tensor, fits: Tensor) -> Tensor:
    """InfoNCE in both directions; an off-diagonal pair that fits is neither positive nor negative."""
    ignored = fits & ~torch.eye(len(fits), dtype=torch.bool)
    similarity = similarity.masked_fill(ignored, -torch.inf)
    target = torch.arange(len(similarity))
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))


def train(
    plan: TrainingPlan,
    config: dict[str, Any],
    checkpoint: Path,
    *,
    save_every_s: float = 120.0,
    stop_after: int | None = None,
) -> Trainer:
    """Train to the plan's end (or for `stop_after` steps), from the checkpoint where there is one."""
    trainer = Trainer(plan, config)
    if trainer.resume(checkpoint):
        log.info("resumed at step %d of %d", trainer.step, plan.steps)
    last = plan.steps if stop_after is None else min(plan.steps, trainer.step + stop_after)
    vision = config["vision_cfg"]
    batches = SceneBatches(
        plan, grid=vision["image_size"] // vision["patch_size"], patch=vision["patch_size"], first_step=trainer.step
    )
    # Spawned workers: a forked one would inherit torch's threads.
    loader = DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4, multiprocessing_context="spawn")
    started = saved = time.monotonic()
    sums: dict[str, float] = {}
    since = trainer.step
    for batch in loader:
        if trainer.step >= last:
            break
        for name, value in trainer.train_step(batch).items():
            sums[name] = sums.get(name, 0.0) + value
        if trainer.step % _LOG_EVERY == 0 or trainer.step == last:
            row = {name: value / (trainer.step - since) for name, value in sums.items()}
            sums, since = {}, trainer.step
            trainer.history.append({"step": trainer.step, **row})
            losses = " ".join(f"{name} {value:.3f}" for name, value in row.items())
            log.info("step %d/%d %s, %.0f s", trainer.step, plan.steps, losses, time.monotonic() - started)
        if time.monotonic() - saved > save_every_s or trainer.step == last:
            trainer.save(checkpoint)
            saved = time.monotonic()
    return trainer


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
