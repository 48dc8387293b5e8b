"""Batches of rendered single scenes, each knowing what it shows, for the training of the packaged VLM.

Most scenes are painted into a random square window of the model's patch grid and only that window's patches are
computed (token dropping, as in FLIP, arXiv 2212.00794): small sprites everywhere in the image cost a fraction of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from qasir.demo.scenes import Scene, ScenePainter, SceneStyle
from qasir.demo.sprites import BACKGROUNDS, background_phrase, load_sprites, noun_phrase
from qasir.demo.training_plan import TrainingPlan

_PREFIXES = ("", "", "", "a video of ", "a picture of ", "a photo of ", "a scene with ", "there is ")
_JOINS = (" and ", " and ", " with ", " next to ", " beside ", ", ")


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


def other_words() -> list[str]:
    """The words of the templates, and of the queries people type around them."""
    return [
        *_PREFIXES,
        *_JOINS,
        "an the on in of at to is are moving across background video some two",
        *load_sprites().names,
        *(f"a {n} an {n} the {n}" for n in BACKGROUNDS),
    ]


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
