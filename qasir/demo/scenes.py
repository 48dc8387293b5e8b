"""Single rendered scenes, the only thing the packaged VLM is trained on.

A scene is one picture: a plain or graded background with a few kinds of sprite on it, each kind once or several times.
It comes with what a teacher needs: which sprites are in it, the background's name, and what each patch mostly shows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qasir.demo.sprites import BACKGROUNDS, SpriteSheet

_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
_UNLABELLED = -1


@dataclass(frozen=True)
class SceneStyle:
    """What scenes of one batch look like. `side` is in pixels, the heights are in pixels too.

    kinds: most different sprites in a scene; copies: most copies of one of them.
    """

    side: int
    min_height: float
    max_height: float
    kinds: int
    copies: int


@dataclass(frozen=True)
class Scene:
    """image (side, side, 3) uint8; sprites and backgrounds are indices; patches (side/patch, side/patch) holds the
    class each patch mostly shows: a sprite's index, `n_sprites + background`, or -1 where nothing rules."""

    image: NDArray[np.uint8]
    sprites: tuple[int, ...]
    background: int | None
    patches: NDArray[np.int64]


class ScenePainter:
    """Paints random scenes from the sprite sheet; the same generator state gives the same scene."""

    def __init__(self, sheet: SpriteSheet, *, patch: int) -> None:
        self.patch = patch
        self.n_sprites = len(sheet)
        # Premultiplied mip levels: scaling from the nearest larger one is fast and does not bleed transparent colours.
        self._mips = [
            [
                tile.convert("RGBa").resize((s, s), Image.Resampling.BOX) if s != tile.width else tile.convert("RGBa")
                for tile in sheet.tiles
            ]
            for s in (96, 48, 24)
        ]
        self._colours = np.array(list(BACKGROUNDS.values()), dtype=np.float32)

    def paint(self, rng: np.random.Generator, style: SceneStyle) -> Scene:
        side, patch = style.side, self.patch
        background, canvas = self._background(rng, side)
        labels = np.full((side // patch, side // patch), _UNLABELLED, dtype=np.int64)
        if background is not None:
            labels[:] = self.n_sprites + background
        taken: list[tuple[float, float, float, float]] = []
        present: list[int] = []
        aspect = rng.uniform(0.68, 1.05)
        kinds = int(rng.integers(1, style.kinds + 1))
        scene_scale = np.exp(rng.uniform(np.log(style.min_height), np.log(style.max_height)))
        for sprite in rng.choice(self.n_sprites, size=kinds, replace=False):
            own_scale = np.exp(rng.uniform(np.log(style.min_height), np.log(style.max_height)))
            height = own_scale if rng.random() < 0.5 else scene_scale
            copies = int(rng.integers(1, style.copies + 1)) if rng.random() < 0.6 else 1
            placed = [self._place(rng, canvas, labels, taken, int(sprite), height, aspect) for _ in range(copies)]
            if any(placed):
                present.append(int(sprite))
        image = np.asarray(canvas)
        if rng.random() < 0.2:
            noise = rng.normal(0.0, rng.uniform(1.0, 4.0), size=(side // 2, side // 2, 1)).repeat(2, 0).repeat(2, 1)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return Scene(np.ascontiguousarray(image), tuple(present), background, labels)

    def _background(self, rng: np.random.Generator, side: int) -> tuple[int | None, Image.Image]:
        """One named colour, a slight gradient of it, or (unnamed) two colours that meet softly or sharply."""
        first, second = rng.choice(len(self._colours), size=2, replace=False)
        base = self._colours[first] + rng.normal(0, 8, 3)
        style = rng.random()
        if style < 0.5:
            colour = tuple(int(v) for v in np.clip(base, 0, 255))
            return int(first), Image.new("RGB", (side, side), colour)
        angle = rng.uniform(0, 2 * np.pi)
        ramp = np.linspace(-1, 1, side, dtype=np.float32)
        along = np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None]
        if style < 0.75:
            weight, other, name = (along + 1.5) / 3.0, base * rng.uniform(0.7, 1.2), int(first)
        else:
            steepness = np.exp(rng.uniform(0, 4))
            weight = 1.0 / (1.0 + np.exp(-steepness * (along - rng.uniform(-0.6, 0.6))))
            other, name = self._colours[second] + rng.normal(0, 8, 3), None
        weight = np.clip(weight, 0, 1)[..., None]
        pixels = base * (1 - weight) + other * weight
        return name, Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    def _place(
        self,
        rng: np.random.Generator,
        canvas: Image.Image,
        labels: NDArray[np.int64],
        taken: list[tuple[float, float, float, float]],
        sprite: int,
        height: float,
        aspect: float,
    ) -> bool:
        """Draw one copy where it hides at most a quarter of what is there already; False when there is no room."""
        side = canvas.width
        height = min(height * rng.uniform(0.9, 1.1), 0.98 * side)
        h, w = max(4, round(height)), max(4, round(height * aspect))
        for _ in range(6):
            x, y = int(rng.integers(0, side - w + 1)), int(rng.integers(0, side - h + 1))
            if all(_overlap((x, y, w, h), other) < 0.25 for other in taken):
                break
        else:
            return False
        taken.append((x, y, w, h))
        mip = self._mips[2 if h <= 24 else 1 if h <= 48 else 0][sprite]
        tile = mip.resize((w, h), _FILTERS[rng.integers(len(_FILTERS))]).convert("RGBA")
        if rng.random() < 0.5:
            tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        canvas.paste(tile, (x, y), tile)
        self._label(labels, sprite, np.asarray(tile.getchannel("A")), x, y)
        return True

    def _label(self, labels: NDArray[np.int64], sprite: int, alpha: NDArray[np.uint8], x: int, y: int) -> None:
        p = self.patch
        x0, y0, x1, y1 = x // p, y // p, -(-(x + alpha.shape[1]) // p), -(-(y + alpha.shape[0]) // p)
        cover = np.zeros(((y1 - y0) * p, (x1 - x0) * p), dtype=np.float32)
        cover[y - y0 * p : y - y0 * p + alpha.shape[0], x - x0 * p : x - x0 * p + alpha.shape[1]] = alpha
        share = cover.reshape(y1 - y0, p, x1 - x0, p).mean(axis=(1, 3)) / 255.0
        region = labels[y0:y1, x0:x1]
        region[share > 0.05] = _UNLABELLED
        region[share > 0.2] = sprite


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Share of the smaller box (x, y, width, height) that lies in the other."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(a[2] * a[3], b[2] * b[3])
