"""The pictures the demo is made of: named sprites (Noto Emoji) and named background colours."""

import io
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from PIL import Image

_PLURAL = frozenset(
    [
        "footprints",
        "cherries",
        "blueberries",
        "grapes",
        "peanuts",
        "pancakes",
        "chopsticks",
        "skis",
        "glasses",
        "sunglasses",
        "goggles",
        "jeans",
        "gloves",
        "socks",
        "maracas",
        "books",
        "scissors",
    ]
) | {"french fries", "bowling pins", "theatre masks", "nesting dolls"}
_MASS = frozenset(
    [
        "bacon",
        "bread",
        "broccoli",
        "butter",
        "coral",
        "dna",
        "fire",
        "garlic",
        "ice",
        "popcorn",
        "salt",
        "soap",
        "spaghetti",
        "sushi",
        "yarn",
    ]
) | {"green salad", "shaved ice", "canned food", "santa claus", "meat on the bone", "tokyo tower", "luggage"}
_DEFINITE = frozenset({"statue of liberty"})

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (22, 22, 24),
    "white": (240, 240, 238),
    "grey": (128, 128, 130),
    "red": (196, 48, 44),
    "orange": (236, 140, 44),
    "yellow": (240, 214, 80),
    "green": (60, 150, 74),
    "blue": (52, 96, 190),
    "light blue": (150, 204, 236),
    "purple": (124, 70, 160),
    "pink": (240, 160, 190),
    "brown": (120, 82, 54),
}
"""Plain name -> RGB of every background a scene can have."""


@dataclass(frozen=True)
class SpriteSheet:
    """All sprites: `names[i]` is drawn by `tiles[i]`, an RGBA square whose content's longest side fills it."""

    names: tuple[str, ...]
    tiles: tuple[Image.Image, ...]

    def __len__(self) -> int:
        return len(self.names)


@cache
def load_sprites() -> SpriteSheet:
    """Read the packaged sheet (lossless, so every machine draws the same pixels)."""
    folder = files("qasir.demo") / "sprites"
    layout = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    sheet = Image.open(io.BytesIO((folder / "sheet.webp").read_bytes())).convert("RGBA")
    side, columns = layout["tile"], layout["columns"]
    boxes = [((i % columns) * side, (i // columns) * side) for i in range(len(layout["names"]))]
    tiles = tuple(sheet.crop((x, y, x + side, y + side)) for x, y in boxes)
    return SpriteSheet(tuple(layout["names"]), tiles)


def sprite_licence() -> str:
    """The licence and notice that must travel with every copy of the sprites."""
    folder = files("qasir.demo") / "sprites"
    return (folder / "NOTICE").read_text(encoding="utf-8") + "\n" + (folder / "LICENSE").read_text(encoding="utf-8")


def noun_phrase(name: str) -> str:
    """`penguin` -> `a penguin`, `onion` -> `an onion`, `grapes` -> `grapes`."""
    if name in _PLURAL or name in _MASS:
        return name
    if name in _DEFINITE:
        return f"the {name}"
    vowel = name[0] in "aeio" or name in ("umbrella", "hourglass")
    return f"{'an' if vowel else 'a'} {name}"


def background_phrase(background: str) -> str:
    """`blue` -> `on a blue background`."""
    return f"on {'an' if background[0] in 'aeiou' else 'a'} {background} background"


def describe(names: list[str], background: str | None = None) -> str:
    """The plain caption of a moment: `a penguin and a pizza on a blue background`."""
    caption = " and ".join(noun_phrase(name) for name in names)
    return caption if background is None else f"{caption} {background_phrase(background)}"
