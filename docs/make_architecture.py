"""Draws docs/architecture.svg from the code: the rooms, how large they are, and who imports from whom.

    python docs/make_architecture.py

Rows are the layers of the import contracts in pyproject.toml. An arrow that others imply (a room imports from one that
imports from a third) is left out.
"""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH, BOX_WIDTH, BOX_HEIGHT, ROW, GAP = 760, 170, 46, 76, 24


@dataclass(frozen=True)
class Room:
    """modules and lines: of its Python files."""

    name: str
    modules: int
    lines: int


@dataclass(frozen=True)
class Facts:
    """What the picture shows: the rows from top to bottom, and (from, to) of every import between rooms."""

    rows: list[list[Room]]
    imports: list[tuple[str, str]]


def facts() -> Facts:
    """As the code is now."""
    names = [["jobs"], ["pipelines"], *layers()]
    graph = grimp.build_graph("jobs", "pipelines", "qasir", cache_dir=None)
    found = {
        (room_of(module), room_of(other))
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
    }
    between = sorted((a, b) for a, b in found if a != b and "qasir" not in (a, b))
    return Facts([[room(name) for name in row] for row in names], between)


def layers() -> Iterator[list[str]]:
    """The rooms of qasir in their order, from pyproject.toml; those that every room may use share a row."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (order,) = (one["layers"] for one in contracts if one.get("containers") == ["qasir"])
    common = order.index("files")
    yield from ([name.strip() for name in layer.split("|")] for layer in order[:common])
    yield sorted(order[common:])


def room_of(module: str) -> str:
    """The room that a module is in; the package's root is in none ("qasir")."""
    first, *rest = module.split(".")
    return rest[0] if first == "qasir" and rest else first


def room(name: str) -> Room:
    place = ROOT / name if name in ("jobs", "pipelines") else ROOT / "qasir" / name
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    files = [file for file in files if file.stat().st_size]
    return Room(name, len(files), sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files))


def shown(imports: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The imports that no others imply."""
    below: dict[str, set[str]] = {}
    for a, b in imports:
        below.setdefault(a, set()).add(b)

    def reached(name: str) -> set[str]:
        return {found for one in below.get(name, ()) for found in (one, *reached(one))}

    return [(a, b) for a, b in imports if not any(b in reached(other) for other in below[a] - {b})]


def draw(of: Facts) -> str:
    """The SVG; `read` gets the facts out of it again."""
    places = {
        one.name: (x, GAP + number * ROW)
        for number, row in enumerate(of.rows)
        for one, x in zip(row, lefts(row), strict=True)
    }
    height = len(of.rows) * ROW + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" text-anchor="middle">',
        f"<desc>{json.dumps(asdict(of))}</desc>",
        '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#64748b"/></marker>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(arrow(places[a], places[b]) for a, b in shown(of.imports)),
        *(box(one, *places[one.name]) for row in of.rows for one in row),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def lefts(row: list[Room]) -> list[float]:
    """The left edges of a row's boxes, which stand in its middle."""
    whole = len(row) * BOX_WIDTH + (len(row) - 1) * GAP
    return [(WIDTH - whole) / 2 + number * (BOX_WIDTH + GAP) for number in range(len(row))]


def box(one: Room, x: float, y: float) -> str:
    colour = "#fef3c7" if one.name in ("jobs", "pipelines") else "#e0f2fe"
    middle = x + BOX_WIDTH / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{colour}" stroke="#64748b"/>'
        f'<text x="{middle:g}" y="{y + 20:g}" font-size="14" font-weight="bold" fill="#0f172a">{one.name}</text>'
        f'<text x="{middle:g}" y="{y + 36:g}" font-size="11" fill="#334155">{one.modules} '
        f"module{'s' * (one.modules > 1)}, {one.lines:,} lines</text>"
    )


def arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Straight to a neighbour; past other rows in a bow beside them, on the side where both ends are."""
    (x1, y1), (x2, y2) = start, end
    n_rows = round((y2 - y1) / ROW)
    right = min(x1, x2) + BOX_WIDTH / 2 >= WIDTH / 2
    if n_rows == 0:
        path = (
            f"M{max(x1, x2):g} {y1 + BOX_HEIGHT / 2:g}h{-GAP}"
            if x1 > x2
            else f"M{x1 + BOX_WIDTH:g} {y1 + BOX_HEIGHT / 2:g}h{GAP}"
        )
    elif n_rows == 1:
        path = f"M{x1 + BOX_WIDTH / 2:g} {y1 + BOX_HEIGHT:g}L{x2 + BOX_WIDTH / 2:g} {y2:g}"
    else:
        side = BOX_WIDTH if right else 0
        out = min(max(x1, x2) + BOX_WIDTH + 26 * n_rows, WIDTH) if right else max(min(x1, x2) - 26 * n_rows, 0)
        x1, y1, x2, y2 = x1 + side, y1 + BOX_HEIGHT / 2, x2 + side, y2 + BOX_HEIGHT / 2
        path = f"M{x1:g} {y1:g}C{out:g} {y1:g} {out:g} {y2:g} {x2:g} {y2:g}"
    return f'<path d="{path}" fill="none" stroke="#64748b" marker-end="url(#head)"/>'


def read(picture: str) -> Facts:
    """The facts that a picture was drawn from."""
    found = json.loads(picture[picture.index("<desc>") + len("<desc>") : picture.index("</desc>")])
    return Facts([[Room(**one) for one in row] for row in found["rows"]], [(a, b) for a, b in found["imports"]])


def main() -> None:
    PICTURE.write_text(draw(facts()), encoding="utf-8")


if __name__ == "__main__":
    main()
