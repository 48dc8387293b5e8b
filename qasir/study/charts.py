"""The study's charts: lines and points with intervals over a cost, a setting or a bin."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from qasir.evaluation.report.charts import Frame, Point, opened, x_label, x_tick, y_tick

_COLOURS = (
    "var(--accent)",
    "var(--blue)",
    "var(--true)",
    "var(--violet)",
    "var(--gold)",
    "var(--soft)",
    "var(--wrong)",
)
_KEY_LINE = 17


@dataclass(frozen=True)
class Series:
    """Points of one kind, drawn in one colour; joined by a line, or not. `Point.label` is written beside a point."""

    label: str
    points: Sequence[Point]
    joined: bool = True


@dataclass(frozen=True)
class Axis:
    """label; log: logarithmic; ticks: {value: what is written} (the values that occur, without)."""

    label: str
    log: bool = False
    ticks: Mapping[float, str] | None = None


def series_chart(series: Sequence[Series], x_axis: Axis, y_label: str, *, front: Sequence[Point] = ()) -> str:
    """Values with intervals over x, a colour and a line of the key for each series; `front` is a dashed step line."""
    points = [point for one in series for point in one.points]
    frame = Frame(760, max(340, 60 + _KEY_LINE * len(series)), left=56, right=210)
    place = _Places(frame, x_axis, points)
    parts = [opened(frame, f"{y_label} by {x_axis.label}"), *place.grid(y_label)]
    if front:
        ordered = sorted(front, key=lambda point: point.cost)
        steps = [place.at(ordered[0])]
        for before, after in itertools.pairwise(ordered):
            (_, y), (x, top) = place.at(before), place.at(after)
            steps += [(x, y), (x, top)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
        parts.append(f'<polyline points="{path}" fill="none" stroke="var(--soft)" stroke-dasharray="5 4"/>')
    for number, one in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = "" if number < len(_COLOURS) else ' stroke-dasharray="2 3"'
        if one.joined and len(one.points) > 1:
            path = " ".join("{:.1f},{:.1f}".format(*place.at(point)) for point in one.points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [_marked(place, point, colour, one.label) for point in one.points]
        y = frame.top + 8 + _KEY_LINE * number
        parts.append(
            f'<circle cx="{frame.width - frame.right + 18}" cy="{y - 4}" r="4.5" fill="{colour}"/>'
            f'<text x="{frame.width - frame.right + 29}" y="{y}" class="label">{escape(one.label)}</text>'
        )
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Row:
    """A line of a dot chart: a value with its interval. group: rows of one group have one colour and a space before them."""

    label: str
    value: float
    low: float
    high: float
    group: str
    is_base: bool = False


def dot_chart(rows: Sequence[Row], label: str) -> str:
    """Values with intervals, one line each, so that what overlaps is seen at once; a base is drawn hollow."""
    groups = list(dict.fromkeys(row.group for row in rows))
    height = 24 * len(rows) + 14 * len(groups) + 52
    frame = Frame(760, height, left=330, right=60, top=6)
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    margin = 0.06 * max(high - low, 1e-9)
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return frame.x((value - low) / (high - low))

    parts = [opened(frame, label)]
    for value in _round_ticks(low, high, 6):
        parts.append(
            f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{frame.top}" y2="{frame.y(0):.1f}" stroke="var(--line)"/>'
            + x_tick(frame, x(value), f"{value:g}")
        )
    y = float(frame.top)
    before = None
    for row in rows:
        y += 24 if row.group == before else 34
        before = row.group
        colour = _COLOURS[groups.index(row.group) % len(_COLOURS)]
        fill = "var(--paper)" if row.is_base else colour
        note = f"{row.label}: {row.value:.1f} ({row.low:.1f} to {row.high:.1f})"
        parts.append(
            f'<text x="{frame.left - 10}" y="{y + 4:.1f}" text-anchor="end" class="label">{escape(row.label)}</text>'
            f'<line x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x(row.value):.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2">'
            f"<title>{escape(note)}</title></circle>"
            f'<text x="{frame.width - frame.right + 8}" y="{y + 4:.1f}" class="tick">{row.value:.1f}</text>'
        )
    parts.append(x_label(frame, label))
    return "".join([*parts, "</svg>"])


class _Places:
    """Where values are in a frame."""

    def __init__(self, frame: Frame, x_axis: Axis, points: Sequence[Point]) -> None:
        self.frame, self.x_axis = frame, x_axis
        xs = [self._scaled(point.cost) for point in points]
        margin = 0.06 * max(max(xs) - min(xs), 1e-9) if len(set(xs)) > 1 else 0.5
        self.left, self.right = min(xs) - margin, max(xs) + margin
        bottom, top = min(point.low for point in points), max(point.high for point in points)
        margin = 0.08 * max(top - bottom, 1e-9)
        self.bottom, self.top = bottom - margin, top + margin
        self.values = sorted({point.cost for point in points})

    def at(self, point: Point) -> tuple[float, float]:
        return self.x(point.cost), self.y(point.value)

    def x(self, value: float) -> float:
        return self.frame.x((self._scaled(value) - self.left) / (self.right - self.left))

    def y(self, value: float) -> float:
        return self.frame.y((value - self.bottom) / (self.top - self.bottom))

    def grid(self, y_label: str) -> list[str]:
        frame, parts = self.frame, []
        for value in _round_ticks(self.bottom, self.top, 6):
            parts.append(y_tick(frame, self.y(value), f"{value:g}"))
        parts += [x_tick(frame, self.x(value), text) for value, text in self._ticks().items()]
        parts.append(
            x_label(frame, self.x_axis.label)
            + f'<text x="14" y="{frame.y(0.5):.1f}" transform="rotate(-90 14 {frame.y(0.5):.1f})" text-anchor="middle" '
            f'class="label">{escape(y_label)}</text>'
        )
        return parts

    def _ticks(self) -> dict[float, str]:
        if self.x_axis.ticks is not None:
            return dict(self.x_axis.ticks)
        if not self.x_axis.log:
            return {value: f"{value:g}" for value in self.values}
        lowest, highest = 10.0**self.left, 10.0**self.right
        powers = range(int(np.floor(self.left)), int(np.ceil(self.right)) + 1)
        ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return {value: f"{value:g}" for value in ticks if lowest <= value <= highest}

    def _scaled(self, value: float) -> float:
        return float(np.log10(max(value, 1e-9))) if self.x_axis.log else float(value)


def _marked(place: _Places, point: Point, colour: str, series: str) -> str:
    x, y = place.at(point)
    note = f"{series} {point.label}: {point.value:.1f} ({point.low:.1f} to {point.high:.1f}) at {point.cost:.4g}"
    text = f'<text x="{x + 7:.1f}" y="{y - 6:.1f}" class="tick">{escape(point.label)}</text>' if point.label else ""
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{place.y(point.low):.1f}" y2="{place.y(point.high):.1f}" stroke="{colour}" '
        f'opacity="0.55" stroke-width="1.5"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}">'
        f"<title>{escape(note)}</title></circle>{text}"
    )


def _round_ticks(low: float, high: float, n: int) -> list[float]:
    """About n round numbers between low and high."""
    rough = (high - low) / n
    power = 10.0 ** np.floor(np.log10(max(rough, 1e-12)))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
    return [float(round(value, 10)) for value in np.arange(np.ceil(low / step) * step, high, step)]
