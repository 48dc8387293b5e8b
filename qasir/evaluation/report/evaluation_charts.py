"""The charts of an evaluation: recall by K, bars by bin, a video's time line, performance against cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from qasir.evaluation.report.drawing import ACCENT, INK, LINE, SOFT, TRUE, drawn, specified

_SIZE = {"width": 560, "height": 280}
_FIT = alt.AutoSizeParams(type="fit", contains="padding")
_KS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)


def recall_curve(rank: NDArray[np.int64], n_videos: int) -> str:
    """Percentage of queries found within K, K from 1 to the corpus' size on a logarithmic axis, against chance."""
    most = max(2, n_videos)
    ks = [k for k in _KS if k <= most]
    x = alt.X("k:Q", title="K (videos looked at)").scale(type="log", domain=[1, most], nice=False)
    base = alt.Chart(alt.Data(values=_recalls(rank, most, ks))).encode(
        x.axis(values=ks, grid=False, format="d", labelOverlap=True)
    )
    chance = base.mark_line(color=SOFT, strokeDash=[4, 4], strokeWidth=1, aria=False).encode(_percent("chance"))
    line = base.mark_line(color=ACCENT, strokeWidth=2.2, aria=False).encode(_percent("recall"))
    marked = base.transform_filter("datum.is_marked").mark_circle(color=ACCENT, size=40, opacity=1)
    x_key, y_key = alt.expr("width - 4"), alt.expr("height - 10")
    key = alt.Chart(alt.Data(values=[{}])).mark_text(align="right", color=SOFT, x=x_key, y=y_key, aria=False)
    layers = [
        chance, line, marked.encode(_percent("recall"), description="note:N"),
        key.encode(text=alt.value("dashed: chance")),
    ]  # fmt: skip
    return _layered(layers, "Recall at K")


def _recalls(rank: NDArray[np.int64], most: int, marked: Sequence[int]) -> list[dict[str, Any]]:
    """The share found within K for enough K to draw a curve, the marked ones among them."""
    ks = np.unique([*np.round(np.geomspace(1, most, 80)).astype(int), *marked]).tolist()
    shares = {k: float((rank <= k).mean()) for k in ks}
    return [
        {"k": k, "recall": share, "chance": k / most, "is_marked": k in marked, "note": f"R@{k} = {100 * share:.1f} %"}
        for k, share in shares.items()
    ]


@dataclass(frozen=True)
class Bar:
    """One bar: a share 0..1, its label, and what the tooltip says."""

    label: str
    share: float | None
    note: str


def bars(items: Sequence[Bar], label: str) -> str:
    """Vertical bars of percentages; a bar without a share is an empty bin and says so."""
    rows = [
        {**asdict(item), "top": item.share or 0.0, "text": "none" if item.share is None else f"{100 * item.share:.0f}"}
        for item in items
    ]
    x = alt.X("label:O", sort=[item.label for item in items], title=label).scale(paddingInner=0.4, paddingOuter=0.2)
    base = alt.Chart(alt.Data(values=rows)).encode(x.axis(labelAngle=0), _percent("top"))
    filled = base.transform_filter("datum.share !== null")
    bar = filled.mark_bar(color=ACCENT, cornerRadius=2).encode(description="note:N")
    return _layered([bar, base.mark_text(dy=-8, color=SOFT, aria=False).encode(text="text:N")], label)


@dataclass(frozen=True)
class Span:
    """Seconds from start to end, with a weight 0..1."""

    start_s: float
    end_s: float
    weight: float = 1.0


def timeline(duration_s: float, attention: Sequence[Span], predicted: Span, true: Sequence[Span]) -> str:
    """A video's time line: attention as steps, the predicted moment above, the true ones (if it is the video) below."""
    until = max(duration_s, 1e-9)
    boxes = [
        *(_box(s, until, 0, s.weight, SOFT, f"{s.start_s:.0f} to {s.end_s:.0f} s: attention {s.weight:.2f}")
          for s in attention),
        _box(predicted, until, 1.12, 1.3, ACCENT, f"predicted: {predicted.start_s:.1f} to {predicted.end_s:.1f} s"),
        *(_box(s, until, -0.36, -0.18, TRUE, f"true: {s.start_s:.1f} to {s.end_s:.1f} s") for s in true),
    ]  # fmt: skip
    ticks = [{"share": share, "text": f"{share * duration_s:.0f} s"} for share in np.linspace(0, 1, 7).tolist()]
    return drawn(_timeline_spec() | {"datasets": {"boxes": boxes, "ticks": ticks}}, "time line", kind="timeline")


def _box(span: Span, until: float, bottom: float, top: float, colour: str, note: str) -> dict[str, Any]:
    """A rectangle over a span, in shares of the video, wide enough to be seen."""
    start, end = span.start_s / until, min(span.end_s / until, 1.0)
    return {
        "start": start, "end": max(end, start + 1 / 720), "bottom": bottom, "top": top, "colour": colour,
        "opacity": 0.75 if colour == SOFT else 1, "note": note,
    }  # fmt: skip


@cache
def _timeline_spec() -> dict[str, Any]:
    """Everything about a time line but its data: a report has dozens, and Altair takes longer to say it than Vega to
    draw."""
    boxes = (
        alt.Chart(alt.NamedData("boxes"))
        .mark_rect()
        .encode(
            alt.X("start:Q", axis=None).scale(domain=[0, 1]),
            alt.X2("end:Q"),
            alt.Y("bottom:Q", axis=None).scale(domain=[-1, 1.3], nice=False),
            alt.Y2("top:Q"),
            alt.Color("colour:N", scale=None),
            alt.Opacity("opacity:Q", scale=None),
            alt.Description("note:N"),
        )
    )
    ticks = alt.Chart(alt.NamedData("ticks")).encode(alt.X("share:Q", axis=None))
    ground = ticks.mark_rule(color=LINE, aria=False).encode(
        alt.X("min(share):Q", axis=None), alt.X2("max(share):Q"), alt.YDatum(0, axis=None)
    )
    align = alt.expr("datum.share == 0 ? 'left' : datum.share == 1 ? 'right' : 'center'")
    text = ticks.mark_text(color=SOFT, align=align, y="height", dy=-6, aria=False).encode(text="text:N")
    return specified(alt.layer(ground, boxes, text).properties(width=1060, height=112, autosize=_FIT))


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
    rows = [{**asdict(p), "cost": max(p.cost, 1e-9), "note": _said(p)} for p in points]
    costs = sorted({row["cost"] for row in rows})
    x = alt.X("cost:Q", title=cost_label).scale(type="log", nice=False, padding=24)
    base = alt.Chart(alt.Data(values=rows)).encode(x.axis(values=costs, format=".3~r", grid=False, labelOverlap=True))
    y = alt.Y("value:Q", title=value_label).scale(zero=False, padding=12).axis(tickCount=5)
    interval = base.mark_rule(color=ACCENT, opacity=0.5, aria=False).encode(
        alt.Y("low:Q", title=value_label), alt.Y2("high:Q")
    )
    dot = base.mark_circle(color=ACCENT, size=64, opacity=1).encode(y, description="note:N")
    name = base.mark_text(align="left", dx=8, dy=-8, color=INK, fontSize=12, aria=False).encode(y, text="label:N")
    title = f"{value_label} against {cost_label}"
    return _layered(
        [dot, interval, name], title, width=720, height=320, padding={"left": 5, "top": 10, "bottom": 5, "right": 130}
    )


def _said(p: Point) -> str:
    return f"{p.label}: {p.value:.1f} ({p.low:.1f} to {p.high:.1f}) at {p.cost:.3g}"


def _percent(field: str) -> alt.Y:
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], labelExpr="100 * datum.value + ' %'", title=None)
    return alt.Y(f"{field}:Q", axis=axis).scale(domain=[0, 1])


def _layered(layers: Sequence[alt.Chart], title: str, **properties: Any) -> str:
    return drawn(specified(alt.layer(*layers).properties(autosize=_FIT, **(_SIZE | properties))), title)
