import pytest

from qasir.evaluation.report.evaluation_charts import Point
from qasir.study.comparison_charts import Axis, Row, Series, dot_chart, series_chart
from tests.qasir.evaluation.test_report_charts import marks, texts, tooltips


def points(*costs, label=""):
    return [Point(label, cost, 10.0 * i, 10.0 * i - 2, 10.0 * i + 3) for i, cost in enumerate(costs, start=1)]


def test_series_have_a_colour_a_line_of_the_key_and_intervals_in_words():
    svg = series_chart([Series("large", points(1, 2)), Series("small", points(1, 4))], Axis("N"), "SumR")
    assert tooltips(svg) == [
        f"{name} : {value:.1f} ({value - 2:.1f} to {value + 3:.1f}) at {cost}"
        for name, costs in (("large", (1, 2)), ("small", (1, 4)))
        for value, cost in zip((10.0, 20.0), costs, strict=True)
    ]
    assert {mark.get("fill") for mark in marks(svg, "large")} == {"var(--accent)"}
    assert {mark.get("fill") for mark in marks(svg, "small")} == {"var(--blue)"}
    assert {"large", "small", "1", "2", "4", "N", "SumR"} <= set(texts(svg))


def test_a_point_s_label_is_written_and_a_front_is_dashed():
    one = [Series("zero-shot", points(1, 100, label="2"), joined=False)]
    plain = series_chart(one, Axis("GFLOPs", log=True), "SumR")
    assert texts(plain).count("2") >= 2
    assert 'stroke-dasharray="5,4"' not in plain
    assert 'stroke-dasharray="5,4"' in series_chart(one, Axis("GFLOPs", log=True), "SumR", front=points(1, 100))


def test_ticks_are_written_as_they_are_given():
    svg = series_chart([Series("a", points(0, 1))], Axis("M/V", ticks={0.0: "(0, 0.2]: 5", 1.0: "more"}), "R@10")
    assert {"(0, 0.2]: 5", "more"} <= set(texts(svg))


@pytest.mark.parametrize("log", [True, False])
def test_one_point_can_be_drawn(log):
    svg = series_chart([Series("a", points(3))], Axis("x", log=log), "y")
    assert len(tooltips(svg)) == 1
    assert "NaN" not in svg


def test_nine_series_are_nine_lines_of_the_key():
    svg = series_chart([Series(f"s{i}", points(1, 2)) for i in range(9)], Axis("x"), "y")
    assert {f"s{i}" for i in range(9)} <= set(texts(svg))


def test_a_dot_chart_has_a_line_a_row_and_a_base_is_hollow():
    rows = [
        Row("a <plain>", 30.0, 25.0, 35.0, "one", is_base=True),
        Row("tuned", 40.0, 36.0, 44.0, "one"),
        Row("a <plain>", 30.0, 25.0, 35.0, "two", is_base=True),
        Row("hybrid", 45.5, 36.0, 50.0, "two"),
    ]
    svg = dot_chart(rows, "SumR")
    assert sorted(tooltips(svg)) == sorted(f"{r.label}: {r.value:.1f} ({r.low:.1f} to {r.high:.1f})" for r in rows)
    assert {mark.get("fill") for mark in marks(svg, "a <plain>")} == {"var(--paper)"}
    assert [mark.get("stroke") for mark in marks(svg, "a <plain>")] == ["var(--accent)", "var(--blue)"]
    assert [mark.get("fill") for mark in marks(svg, "hybrid")] == ["var(--blue)"]
    said = texts(svg)
    assert [said.count(text) for text in ("a <plain>", "tuned", "hybrid", "30.0", "45.5")] == [2, 1, 1, 2, 1]
