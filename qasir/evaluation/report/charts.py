"""Small SVG charts, drawn without a plotting library so that the report stays one light file."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

_INK, _SOFT, _LINE = "var(--ink)", "var(--soft)", "var(--line)"
_OURS, _TRUE, _WRONG = "var(--accent)", "var(--true)", "var(--wrong)"


@dataclass(frozen=True)
class Frame:
    """A plot area of width x height pixels inside margins, with x and y ranges."""

    width: int
    height: int
    left: int = 44
    right: int = 12
    top: int = 14
    bottom: int = 36

    def x(self, share: float) -> float:
        return self.left + share * (self.width - self.left - self.right)

    def y(self, share: float) -> float:
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def recall_curve(rank: NDArray[np.int64], n_videos: int) -> str:
    """Percentage of queries found within K, K from 1 to the corpus' size on a logarithmic axis, against chance."""
    frame = Frame(560, 280)
    most = max(2, n_videos)
    ks = np.unique(np.round(np.geomspace(1, most, 80)).astype(int))
    recall = np.array([(rank <= k).mean() for k in ks])

    def at(k: float, share: float) -> str:
        return f"{frame.x(np.log(k) / np.log(most)):.1f},{frame.y(share):.1f}"

    ours = " ".join(at(k, r) for k, r in zip(ks, recall, strict=True))
    chance = " ".join(at(k, k / most) for k in ks)
    parts = [opened(frame, "Recall at K"), _percent_axis(frame)]
    for k in [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000) if k <= most]:
        x = frame.x(np.log(k) / np.log(most))
        parts.append(x_tick(frame, x, str(k)))
        share = float((rank <= k).mean())
        parts.append(
            f'<circle cx="{x:.1f}" cy="{frame.y(share):.1f}" r="3.5" fill="{_OURS}"><title>R@{k} = {100 * share:.1f} %</title></circle>'
        )
    parts.append(f'<polyline points="{chance}" fill="none" stroke="{_SOFT}" stroke-dasharray="4 4"/>')
    parts.append(f'<polyline points="{ours}" fill="none" stroke="{_OURS}" stroke-width="2.2"/>')
    parts.append(x_label(frame, "K (videos looked at)"))
    parts.append(
        f'<text x="{frame.x(0.98):.1f}" y="{frame.y(0.06):.1f}" text-anchor="end" class="tick">dashed: chance</text>'
    )
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Bar:
    """One bar: a share 0..1, its label, and what the tooltip says."""

    label: str
    share: float | None
    note: str


def bars(items: Sequence[Bar], label: str) -> str:
    """Vertical bars of percentages; a bar without a share is an empty bin and says so."""
    frame = Frame(560, 280)
    parts = [opened(frame, label), _percent_axis(frame)]
    step = 1.0 / max(1, len(items))
    for i, item in enumerate(items):
        centre = frame.x((i + 0.5) * step)
        width = 0.6 * (frame.x(step) - frame.x(0))
        if item.share is None:
            parts.append(
                f'<text x="{centre:.1f}" y="{frame.y(0.03):.1f}" text-anchor="middle" class="tick">none</text>'
            )
        else:
            top = frame.y(item.share)
            parts.append(
                f'<rect x="{centre - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{frame.y(0) - top:.1f}" '
                f'fill="{_OURS}" rx="2"><title>{escape(item.note)}</title></rect>'
                f'<text x="{centre:.1f}" y="{top - 4:.1f}" text-anchor="middle" class="tick">{100 * item.share:.0f}</text>'
            )
        parts.append(x_tick(frame, centre, item.label))
    parts.append(x_label(frame, label))
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Span:
    """Seconds from start to end, with a weight 0..1."""

    start_s: float
    end_s: float
    weight: float = 1.0


def timeline(duration_s: float, attention: Sequence[Span], predicted: Span, true: Sequence[Span]) -> str:
    """A video's time line: attention as steps, the predicted moment above, the true ones (if it is the video) below."""
    width, height = 720, 74
    left, right = 8, 8
    scale = (width - left - right) / max(duration_s, 1e-9)

    def box(span: Span, y: float, h: float, fill: str, title: str, opacity: float = 1.0) -> str:
        x0, x1 = left + span.start_s * scale, left + min(span.end_s, duration_s) * scale
        return (
            f'<rect x="{x0:.1f}" y="{y:.1f}" width="{max(1.0, x1 - x0):.1f}" height="{h:.1f}" fill="{fill}" '
            f'opacity="{opacity:.2f}"><title>{escape(title)}</title></rect>'
        )

    parts = [f'<svg viewBox="0 0 {width} {height}" class="timeline" role="img" aria-label="time line">']
    for span in attention:
        h = 26 * span.weight
        parts.append(
            box(span, 40 - h, h, _SOFT, f"{span.start_s:.0f} to {span.end_s:.0f} s: attention {span.weight:.2f}", 0.75)
        )
    parts.append(f'<line x1="{left}" y1="40" x2="{width - right}" y2="40" stroke="{_LINE}"/>')
    parts.append(box(predicted, 6, 5, _OURS, f"predicted: {predicted.start_s:.1f} to {predicted.end_s:.1f} s"))
    parts += [box(span, 44, 5, _TRUE, f"true: {span.start_s:.1f} to {span.end_s:.1f} s") for span in true]
    n_ticks = 6
    for i in range(n_ticks + 1):
        t = duration_s * i / n_ticks
        anchor = "start" if i == 0 else "end" if i == n_ticks else "middle"
        parts.append(f'<text x="{left + t * scale:.1f}" y="68" text-anchor="{anchor}" class="tick">{t:.0f} s</text>')
    return "".join([*parts, "</svg>"])


def opened(frame: Frame, title: str) -> str:
    return f'<svg viewBox="0 0 {frame.width} {frame.height}" class="chart" role="img" aria-label="{escape(title)}">'


def x_tick(frame: Frame, x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{frame.height - 20}" text-anchor="middle" class="tick">{escape(text)}</text>'


def x_label(frame: Frame, text: str) -> str:
    return (
        f'<text x="{frame.x(0.5):.1f}" y="{frame.height - 4}" text-anchor="middle" class="label">{escape(text)}</text>'
    )


def y_tick(frame: Frame, y: float, text: str) -> str:
    """A line across the plot, and what it stands for."""
    return (
        f'<line x1="{frame.x(0):.1f}" x2="{frame.x(1):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_LINE}"/>'
        f'<text x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end" class="tick">{escape(text)}</text>'
    )


def _percent_axis(frame: Frame) -> str:
    return "".join(y_tick(frame, frame.y(percent / 100), f"{percent} %") for percent in (0, 25, 50, 75, 100))


@dataclass(frozen=True)
class Point:
    """A method in a chart of performance against cost."""

    label: str
    cost: float
    value: float
    low: float
    high: float


def trade_off(points: Sequence[Point], cost_label: str, value_label: str) -> str:
    """Performance with its interval against cost, on a logarithmic axis of cost."""
    frame = Frame(720, 320, left=56, right=130)
    costs = np.log10([max(point.cost, 1e-9) for point in points])
    left, right = float(costs.min()) - 0.15, float(costs.max()) + 0.15
    bottom = min(point.low for point in points)
    top = max(point.high for point in points)
    margin = 0.08 * max(top - bottom, 1e-9)
    bottom, top = bottom - margin, top + margin

    def x(cost: float) -> float:
        return frame.x((np.log10(max(cost, 1e-9)) - left) / (right - left))

    def y(value: float) -> float:
        return frame.y((value - bottom) / (top - bottom))

    parts = [opened(frame, f"{value_label} against {cost_label}")]
    for value in np.linspace(bottom + margin, top - margin, 5):
        parts.append(y_tick(frame, y(value), f"{value:.0f}"))
    for point in points:
        px, py = x(point.cost), y(point.value)
        note = f"{point.label}: {point.value:.1f} ({point.low:.1f} to {point.high:.1f}) at {point.cost:.3g}"
        parts.append(
            f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}" stroke="{_OURS}" opacity="0.5"/>'
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="{_OURS}"><title>{escape(note)}</title></circle>'
            f'<text x="{px + 8:.1f}" y="{py - 6:.1f}" class="label">{escape(point.label)}</text>'
            + x_tick(frame, px, f"{point.cost:.3g}")
        )
    parts.append(x_label(frame, cost_label))
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name and its points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def line_chart(lines: Sequence[Line], along: str, value_label: str) -> str:
    """Lines over a linear axis of whole numbers (epochs, say), each labelled at its end; points that are not finite are left out."""
    frame = Frame(560, 280, left=56, right=110)
    xs = [x for line in lines for x in line.x] or [0.0]
    ys = [y for line in lines for y in line.y if np.isfinite(y)] or [0.0]
    left, right = min(xs), max(max(xs), min(xs) + 1)
    margin = 0.06 * max(max(ys) - min(ys), 1e-9)
    bottom, top = min(ys) - margin, max(ys) + margin

    def at(x: float, y: float) -> tuple[float, float]:
        return frame.x((x - left) / (right - left)), frame.y((y - bottom) / (top - bottom))

    parts = [opened(frame, f"{value_label} by {along}")]
    for value in np.linspace(bottom + margin, top - margin, 5):
        _, y = at(left, float(value))
        parts.append(y_tick(frame, y, f"{value:.3g}"))
    for value in np.arange(np.ceil(left), right + 1e-9, max(1, np.ceil((right - left) / 10))):
        x, _ = at(float(value), bottom)
        parts.append(x_tick(frame, x, f"{value:.0f}"))
    for line in lines:
        points = [at(x, y) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(y)]
        if not points:
            continue
        style = f'stroke="{_SOFT}" stroke-dasharray="4 4"' if line.dashed else f'stroke="{_OURS}" stroke-width="2.2"'
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" {style}/>')
        x, y = points[-1]
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" class="tick">{escape(line.label)}</text>')
    parts.append(x_label(frame, along))
    return "".join([*parts, "</svg>"])
