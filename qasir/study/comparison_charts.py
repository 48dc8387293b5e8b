"""The charts that compare a study's settings: lines and points with intervals over a cost, a setting or a bin."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt

from qasir.evaluation.report.drawing import (
    ACCENT,
    BLUE,
    GOLD,
    INK,
    PAPER,
    SOFT,
    TRUE,
    VIOLET,
    WRONG,
    drawn,
    spare,
    specified,
)
from qasir.evaluation.report.evaluation_charts import Point

_COLOURS = (ACCENT, BLUE, TRUE, VIOLET, GOLD, SOFT, WRONG)
_FIT = alt.AutoSizeParams(type="fit", contains="padding")
_WIDTH = 760
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
    rows = [
        {**_placed(point, x_axis), "series": one.label, "joined": one.joined, "note": _said(one.label, point)}
        for one in series
        for point in one.points
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(_x(x_axis, rows), _colour([one.label for one in series]))
    y = alt.Y("value:Q", title=y_label).scale(zero=False, padding=12).axis(tickCount=6)
    dash = alt.StrokeDash("series:N", legend=None, sort=None).scale(
        domain=[one.label for one in series],
        range=[[1, 0] if i < len(_COLOURS) else [2, 3] for i in range(len(series))],
    )
    line = base.transform_filter("datum.joined").mark_line(strokeWidth=2, aria=False).encode(y, dash)
    interval = base.mark_rule(opacity=0.55, strokeWidth=1.5, aria=False).encode(
        alt.Y("low:Q", title=y_label), alt.Y2("high:Q")
    )
    dot = base.mark_circle(size=64, opacity=1).encode(y, alt.Description("note:N"))
    text = base.mark_text(align="left", dx=7, dy=-7, fontSize=11, aria=False).encode(
        y, text="label:N", color=alt.value(SOFT)
    )
    height = max(340, 60 + _KEY_LINE * len(series))
    return _layered(
        [*_front([_placed(point, x_axis) for point in front], y), line, interval, dot, text],
        f"{y_label} by {x_axis.label}",
        height=height,
        right=5 + spare(one.label for one in series),
    )


@dataclass(frozen=True)
class Row:
    """A line of a dot chart: a value with its interval; rows of one group have one colour and a space before them."""

    label: str
    value: float
    low: float
    high: float
    group: str
    is_base: bool = False


def dot_chart(rows: Sequence[Row], label: str) -> str:
    """Values with intervals, one line each, so that what overlaps is seen at once; a base is drawn hollow."""
    groups = list(dict.fromkeys(row.group for row in rows))
    lines = [
        {**asdict(row), "line": i + groups.index(row.group) / 2, "note": _interval(row.label, row)}
        for i, row in enumerate(rows)
    ]
    last = lines[-1]["line"]
    names = {row["line"]: row["label"] for row in lines}
    y_axis = alt.Axis(
        values=list(names), labelExpr=_written(names), labelColor=INK, labelFontSize=12, labelLimit=340, grid=False
    )
    y = alt.Y("line:Q", axis=y_axis, title=None).scale(domain=[-0.5, last + 0.5], reverse=True, nice=False)
    base = alt.Chart(alt.Data(values=lines)).encode(y, _colour(groups, key=False))
    x = alt.X("value:Q", title=label).scale(zero=False, padding=12, nice=False).axis(tickCount=6)
    interval = base.mark_rule(strokeWidth=2, aria=False).encode(alt.X("low:Q", title=label), alt.X2("high:Q"))
    dot = base.mark_point(size=90, strokeWidth=2, opacity=1, filled=False).encode(x, alt.Description("note:N"))
    full = dot.transform_filter("!datum.is_base").encode(fill=alt.Fill("group:N", legend=None).scale(_scale(groups)))
    value = base.mark_text(x=alt.expr("width + 8"), align="left", fontSize=11, aria=False).encode(
        text=alt.Text("value:Q", format=".1f"), color=alt.value(SOFT)
    )
    hollow = dot.transform_filter("datum.is_base").encode(fill=alt.value(PAPER))
    return _layered(
        [interval, full, hollow, value],
        label,
        height=round(24 * (last + 1)) + 56,
        left=5 + spare(names.values()),
        right=50,
    )


def _front(rows: list[dict[str, Any]], y: alt.Y) -> list[alt.Chart]:
    """A dashed step line through points, the cheapest first."""
    if not rows:
        return []
    line = alt.Chart(alt.Data(values=rows)).mark_line(
        interpolate="step-after", color=SOFT, strokeDash=[5, 4], strokeWidth=1, aria=False
    )
    return [line.encode(alt.X("cost:Q"), y)]


def _x(axis: Axis, rows: Sequence[Mapping[str, Any]]) -> alt.X:
    x = alt.X("cost:Q", title=axis.label).scale(
        type="log" if axis.log else "linear", zero=False, nice=False, padding=24
    )
    if axis.log:
        return x.axis(grid=False, tickCount=8, format="~g", labelOverlap=True)
    ticks = axis.ticks or {row["cost"]: f"{row['cost']:g}" for row in rows}
    return x.axis(grid=False, values=list(ticks), labelExpr=_written(ticks), labelOverlap=True)


def _colour(names: Sequence[str], *, key: bool = True) -> alt.Color:
    legend = alt.Legend(orient="right", symbolType="circle") if key else None
    return alt.Color("series:N" if key else "group:N", legend=legend, sort=None).scale(_scale(names))


def _scale(names: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=[_COLOURS[i % len(_COLOURS)] for i in range(len(names))])


def _written(names: Mapping[float, str]) -> str:
    """An expression of an axis' label from what is written at a value."""
    # A key is written as JavaScript writes a number.
    keys = {str(int(value)) if value == int(value) else repr(value): name for value, name in names.items()}
    return f"{json.dumps(keys)}[datum.value]"


def _placed(point: Point, axis: Axis) -> dict[str, Any]:
    return {**asdict(point), "cost": max(point.cost, 1e-9) if axis.log else float(point.cost)}


def _said(series: str, point: Point) -> str:
    return f"{_interval(f'{series} {point.label}', point)} at {point.cost:.4g}"


def _interval(name: str, one: Point | Row) -> str:
    return f"{name}: {one.value:.1f} ({one.low:.1f} to {one.high:.1f})"


def _layered(layers: Sequence[alt.Chart], title: str, *, height: int, left: int = 5, right: int) -> str:
    padding = {"left": left, "top": 10, "bottom": 5, "right": right}
    chart = alt.layer(*layers).properties(width=_WIDTH, height=height, autosize=_FIT, padding=padding)
    return drawn(specified(chart), title)
