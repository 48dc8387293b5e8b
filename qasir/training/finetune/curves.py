"""Draws how a fine-tuning went."""

import math
from typing import Any

import altair as alt

from qasir.evaluation.report.drawing import ACCENT, SOFT, drawn, specified, standalone

_SUM_R = "validation SumR"


def curves(history: list[dict[str, Any]]) -> str:
    """An SVG picture: the loss of each epoch, and the validation SumR with the zero-shot one as a dashed line."""
    loss = [(record["epoch"], record["loss"]) for record in history if record["epoch"] > 0]
    every = [(record["epoch"], record["SumR"]) for record in history]
    zero_shot = [(epoch, every[0][1]) for epoch, _ in (every[0], every[-1])]
    charts = [
        _lines({"loss": loss}, "training loss"),
        _lines({_SUM_R: every, "zero-shot": zero_shot}, _SUM_R, dashed="zero-shot"),
    ]
    return standalone(drawn(specified(alt.vconcat(*charts)), "training loss and validation SumR by epoch"))


def _lines(lines: dict[str, list[tuple[int, float]]], title: str, *, dashed: str = "") -> alt.LayerChart:
    """Lines by epoch, each labelled at its end; values that are not finite are left out."""
    finite = {line: [point for point in points if math.isfinite(point[1])] for line, points in lines.items()}
    rows = [
        {"epoch": epoch, "value": value, "line": line, "is_last": epoch == points[-1][0]}
        for line, points in finite.items()
        for epoch, value in points
    ]
    base = alt.Chart(alt.Data(values=rows), width=440, height=220).encode(
        alt.X("epoch:Q", title="epoch").axis(grid=False, format="d", tickMinStep=1).scale(zero=False, nice=False),
        alt.Y("value:Q", title=title).axis(tickCount=5, minExtent=28).scale(zero=False, padding=8),
    )
    is_dashed = alt.datum.line == dashed
    line = base.mark_line(aria=False).encode(
        alt.Detail("line:N"),
        color=alt.when(is_dashed).then(alt.value(SOFT)).otherwise(alt.value(ACCENT)),
        strokeDash=alt.when(is_dashed).then(alt.value([4, 4])).otherwise(alt.value([1, 0])),
        strokeWidth=alt.when(is_dashed).then(alt.value(1)).otherwise(alt.value(2.2)),
    )
    name = (
        base.transform_filter("datum.is_last")
        .mark_text(align="left", dx=6, color=SOFT, aria=False)
        .encode(text="line:N")
    )
    return line + name
