"""Draws how a fine-tuning went."""

import math
from functools import cache
from typing import Any

import altair as alt

from qasir.evaluation.report.drawing import ACCENT, SOFT, drawn, specified, standalone

_LOSS, _SUM_R = "training loss", "validation SumR"


def curves(history: list[dict[str, Any]]) -> str:
    """An SVG picture: the loss of each epoch, and the validation SumR with the zero-shot one as a dashed line."""
    loss = [(record["epoch"], record["loss"]) for record in history if record["epoch"] > 0]
    every = [(record["epoch"], record["SumR"]) for record in history]
    zero_shot = [(epoch, every[0][1]) for epoch, _ in (every[0], every[-1])]
    rows = {
        _LOSS: _rows("loss", loss),
        _SUM_R: [*_rows(_SUM_R, every), *_rows("zero-shot", zero_shot, is_dashed=True)],
    }
    return standalone(drawn(_spec() | {"datasets": rows}, "training loss and validation SumR by epoch"))


def _rows(line: str, points: list[tuple[int, float]], *, is_dashed: bool = False) -> list[dict[str, Any]]:
    """Points that are finite; the last of them is where the line is named."""
    finite = [point for point in points if math.isfinite(point[1])]
    return [
        {"epoch": epoch, "value": value, "line": line, "is_dashed": is_dashed, "is_last": i == len(finite)}
        for i, (epoch, value) in enumerate(finite, start=1)
    ]


@cache
def _spec() -> dict[str, Any]:
    """Everything but the data, made once: a training draws its curves again after every better epoch."""
    return specified(alt.vconcat(_lines(_LOSS), _lines(_SUM_R)))


def _lines(title: str) -> alt.LayerChart | alt.FacetChart:
    """Lines by epoch, each named at its end."""
    base = alt.Chart(alt.NamedData(title), width=440, height=220).encode(
        alt.X("epoch:Q", title="epoch").axis(grid=False, format="d", tickMinStep=1).scale(zero=False, nice=False),
        alt.Y("value:Q", title=title).axis(tickCount=5, minExtent=28).scale(zero=False, padding=8),
    )
    line = base.mark_line(aria=False).encode(
        alt.Detail("line:N"),
        color=alt.when("datum.is_dashed").then(alt.value(SOFT)).otherwise(alt.value(ACCENT)),
        strokeDash=alt.when("datum.is_dashed").then(alt.value([4, 4])).otherwise(alt.value([1, 0])),
        strokeWidth=alt.when("datum.is_dashed").then(alt.value(1)).otherwise(alt.value(2.2)),
    )
    name = base.transform_filter("datum.is_last").mark_text(align="left", dx=6, color=SOFT, aria=False)
    return alt.layer(line, name.encode(text="line:N"))
