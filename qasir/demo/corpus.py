"""The demo corpus: long rendered videos made of moments, each with a caption, a start and an end.

Everything follows from a seed. A set of videos is made together, because every query must fit one video of the set
only.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qasir.demo.sprites import BACKGROUNDS, SpriteSheet, describe, load_sprites

WIDTH, HEIGHT = 320, 240
FRAME_RATE = 10
MIN_DURATION_S, MAX_DURATION_S = 60.0, 120.0
MIN_MOMENTS, MAX_MOMENTS = 5, 12
MIN_MOMENT_S, MAX_MOMENT_S = 2.0, 20.0
MIN_SPRITE_HEIGHT, MAX_SPRITE_HEIGHT = 0.25, 0.60
BENCHMARK_SEED, BENCHMARK_VIDEOS = 2312, 300
"""The demo benchmark: this seed and this many videos, never used for training or for choosing anything."""
VALIDATION_SEED, VALIDATION_VIDEOS = 414, 300
TRAINING_SEED, TRAINING_VIDEOS = 77, 1000

_MOST_FILLED = 0.8


@dataclass(frozen=True)
class Actor:
    """One moving sprite: height as a share of the frame's, centre (x, y) from `start` to `end` as shares of what is
    free."""

    name: str
    height: float
    start: tuple[float, float]
    end: tuple[float, float]
    mirrored: bool


@dataclass(frozen=True)
class Moment:
    """One or two sprites on a named background, from first_frame up to last_frame (excluded)."""

    actors: tuple[Actor, ...]
    background: str
    shade: float
    first_frame: int
    last_frame: int

    @property
    def names(self) -> frozenset[str]:
        return frozenset(actor.name for actor in self.actors)


@dataclass(frozen=True)
class DemoVideo:
    """A plan of one video: `plain` is the background between moments. `moments` do not overlap and are in order."""

    video_id: str
    n_frames: int
    plain: str
    moments: tuple[Moment, ...]

    @property
    def duration_s(self) -> float:
        return self.n_frames / FRAME_RATE


@dataclass(frozen=True)
class DemoQuery:
    """One query a moment; it fits no other video of the set."""

    query_id: str
    query: str
    video_id: str
    start_s: float
    end_s: float
    duration_s: float


def plan_corpus(n_videos: int, seed: int) -> tuple[list[DemoVideo], list[DemoQuery]]:
    """Videos and queries of a set. Raises ValueError for a number of videos below 1."""
    if n_videos < 1:
        raise ValueError(f"videos {n_videos}: choose 1 or more")
    sheet = load_sprites()
    rng = np.random.default_rng([seed, n_videos])
    videos = [_plan_video(rng, sheet, f"demo_{i:05d}") for i in range(n_videos)]
    videos, texts = _with_unique_queries(rng, sheet, videos)
    queries = [
        DemoQuery(
            f"{video.video_id}_{m}", texts[v][m], video.video_id,
            moment.first_frame / FRAME_RATE, moment.last_frame / FRAME_RATE, video.duration_s,
        )
        for v, video in enumerate(videos)
        for m, moment in enumerate(video.moments)
    ]  # fmt: skip
    return videos, queries


def _plan_video(rng: np.random.Generator, sheet: SpriteSheet, video_id: str) -> DemoVideo:
    n_frames = int(rng.uniform(MIN_DURATION_S, MAX_DURATION_S) * FRAME_RATE)
    n_moments = int(rng.integers(MIN_MOMENTS, MAX_MOMENTS + 1))
    lengths = rng.uniform(MIN_MOMENT_S, MAX_MOMENT_S, n_moments) * FRAME_RATE
    shortest = MIN_MOMENT_S * FRAME_RATE
    while lengths.sum() > _MOST_FILLED * n_frames:
        lengths = np.maximum(shortest, lengths * 0.9)
    frames = lengths.astype(int)
    gaps = np.floor(rng.dirichlet(np.ones(n_moments + 1)) * (n_frames - frames.sum())).astype(int)
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(frames)[:-1]])
    used: set[str] = set()
    moments = []
    for start, length in zip(starts.tolist(), frames.tolist(), strict=True):
        moments.append(_draw_moment(rng, sheet, used, start, start + length))
        used |= moments[-1].names
    return DemoVideo(video_id, n_frames, str(rng.choice(list(BACKGROUNDS))), tuple(moments))


def _draw_moment(rng: np.random.Generator, sheet: SpriteSheet, used: set[str], first: int, last: int) -> Moment:
    free = [name for name in sheet.names if name not in used]
    names = rng.choice(free, size=int(rng.integers(1, 3)), replace=False)
    actors = []
    for place, name in enumerate(names):
        # Two sprites keep to their halves, so that neither hides the other for long.
        low, high = (0.0, 1.0) if len(names) == 1 else ((0.0, 0.45), (0.55, 1.0))[place]
        start, end = ((float(rng.uniform(low, high)), float(rng.uniform(0, 1))) for _ in range(2))
        height = float(rng.uniform(MIN_SPRITE_HEIGHT, MAX_SPRITE_HEIGHT))
        actors.append(Actor(str(name), height, start, end, bool(rng.random() < 0.5)))
    shade = float(rng.uniform(0.0, 0.25)) if rng.random() < 0.3 else 0.0
    return Moment(tuple(actors), str(rng.choice(list(BACKGROUNDS))), shade, first, last)


def _with_unique_queries(
    rng: np.random.Generator, sheet: SpriteSheet, videos: list[DemoVideo]
) -> tuple[list[DemoVideo], list[list[str]]]:
    """Give every moment a query that fits no other video; moments for which there is none are drawn again."""
    by_name: dict[str, set[tuple[int, int]]] = defaultdict(set)
    moments = [list(video.moments) for video in videos]
    for v, own in enumerate(moments):
        for m, moment in enumerate(own):
            for name in moment.names:
                by_name[name].add((v, m))

    def unique(v: int, names: tuple[str, ...], background: str | None) -> bool:
        holding = set.intersection(*(by_name[name] for name in names))
        return all(w == v or (background is not None and moments[w][m].background != background) for w, m in holding)

    def choices(v: int, moment: Moment) -> list[tuple[tuple[str, ...], str | None]]:
        names = tuple(actor.name for actor in moment.actors)
        subsets = [(name,) for name in names] + ([names] if len(names) == 2 else [])
        return [(s, b) for s in subsets for b in (None, moment.background) if unique(v, s, b)]

    # Redrawing a moment can take the uniqueness of others away, so go round until a whole round redraws nothing.
    changed = True
    while changed:
        changed = False
        for v, own in enumerate(moments):
            for m, moment in enumerate(own):
                if not choices(v, moment):
                    changed = True
                    used = set().union(*(other.names for other in own if other is not moment))
                    for name in moment.names:
                        by_name[name].discard((v, m))
                    own[m] = _draw_moment(rng, sheet, used, moment.first_frame, moment.last_frame)
                    for name in own[m].names:
                        by_name[name].add((v, m))
    texts = [[_phrase(rng, choices(v, moment)) for moment in own] for v, own in enumerate(moments)]
    planned = [
        DemoVideo(video.video_id, video.n_frames, video.plain, tuple(own))
        for video, own in zip(videos, moments, strict=True)
    ]
    return planned, texts


def _phrase(rng: np.random.Generator, choices: list[tuple[tuple[str, ...], str | None]]) -> str:
    """Mostly the names alone; the background too where it is needed, and sometimes where it is not."""
    plain = [choice for choice in choices if choice[1] is None]
    pool = plain if plain and rng.random() < 0.75 else choices
    names, background = pool[int(rng.integers(len(pool)))]
    return describe(list(names), background)


def frames(video: DemoVideo, every: int = 1) -> Iterator[NDArray[np.uint8]]:
    """(HEIGHT, WIDTH, 3) uint8 RGB frames in order, all or the first of each `every`; the same plan gives the same
    pixels."""
    plain = _background(video.plain, 0.0)
    moments = list(video.moments)
    current: _Stage | None = None
    for index in range(0, video.n_frames, every):
        while moments and index >= moments[0].first_frame:
            current = _Stage(moments.pop(0))
        if current is not None and index >= current.moment.last_frame:
            current = None
        yield np.asarray(plain if current is None else current.frame(index))


class _Stage:
    """Draws the frames of one moment: its background and its sprites at their size are made once."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self._background = _background(moment.background, moment.shade)
        sheet = load_sprites()
        self._tiles = []
        for actor in moment.actors:
            side = round(actor.height * HEIGHT)
            tile = sheet.tiles[sheet.names.index(actor.name)].convert("RGBa")
            tile = tile.resize((side, side), Image.Resampling.BICUBIC).convert("RGBA")
            self._tiles.append(tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if actor.mirrored else tile)

    def frame(self, index: int) -> Image.Image:
        canvas = self._background.copy()
        along = (index - self.moment.first_frame) / max(1, self.moment.last_frame - self.moment.first_frame - 1)
        for actor, tile in zip(self.moment.actors, self._tiles, strict=True):
            x, y = (a + (b - a) * along for a, b in zip(actor.start, actor.end, strict=True))
            bob = 0.03 * np.sin(2 * np.pi * (index - self.moment.first_frame) / FRAME_RATE)
            left = round(x * (WIDTH - tile.width))
            top = round(float(np.clip(y + bob, 0.0, 1.0)) * (HEIGHT - tile.height))
            canvas.paste(tile, (left, top), tile)
        return canvas


def _background(name: str, shade: float) -> Image.Image:
    """A plain colour, or one that darkens by `shade` from top to bottom."""
    colour = np.array(BACKGROUNDS[name], dtype=np.float32)
    ramp = 1.0 - shade * np.linspace(0.0, 1.0, HEIGHT, dtype=np.float32)[:, None, None]
    return Image.fromarray(np.broadcast_to(np.round(colour * ramp), (HEIGHT, WIDTH, 3)).astype(np.uint8))
