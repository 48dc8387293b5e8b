"""What is said of a question: sentences, a chart, and how a result is written and drawn in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from qasir.evaluation.report.evaluation_charts import Point
from qasir.study.comparing import SUMR, difference
from qasir.study.comparison_charts import Series
from qasir.study.results import Result


@dataclass(frozen=True)
class Finding:
    """A question, its answer in sentences, its chart (SVG, "" when there is nothing to draw), and a table if it has
    one."""

    question: str
    sentences: list[str]
    chart: str = ""
    columns: Sequence[str] = ()
    rows: list[list[str]] = field(default_factory=list)


def shown(result: Result) -> str:
    """SumR with its 95 % interval."""
    return f"{result[SUMR]:.1f} ({result['SumR_low']:.0f} to {result['SumR_high']:.0f})"


def number(value: float | None, digits: int) -> str:
    """To so many digits; a dash where it is not known."""
    return "–" if value is None else f"{value:.{digits}g}"


def change(one: Result, other: Result) -> str:
    """SumR of one minus the other, with its 95 % interval."""
    value, low, high = difference(one, other)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def series_of(lines: dict[str, list[Result]], along: str) -> list[Series]:
    return [Series(name, [point_of(one, one[along]) for one in line]) for name, line in lines.items()]


def point_of(result: Result, x: float, text: str = "") -> Point:
    return Point(text, float(x), result[SUMR], result["SumR_low"], result["SumR_high"])
