"""What a drawn chart says, where its marks are, and in which colours."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from qasir.evaluation.report.drawing import standalone
from qasir.evaluation.report.evaluation_charts import Bar, Point, Span, bars, recall_curve, timeline, trade_off

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg):
    return ElementTree.fromstring(svg)


def tooltips(svg):
    return [element.text for element in drawn(svg).iter(f"{SVG}title")]


def texts(svg):
    return [element.text for element in drawn(svg).iter(f"{SVG}text")]


def marks(svg, says):
    """The elements whose tooltip starts so."""
    return [
        element
        for element in drawn(svg).iter()
        if any(child.tag == f"{SVG}title" and child.text.startswith(says) for child in element)
    ]


def height(mark):
    """How tall a rectangle's path is."""
    return float(re.findall(r"[vV](-?[\d.]+)", mark.get("d"))[0])


def test_the_recall_curve_says_recall_at_each_k_of_the_corpus():
    rank = np.array([1, 1, 2, 4, 9])
    svg = recall_curve(rank, 30)
    assert tooltips(svg) == ["R@1 = 40.0 %", "R@2 = 60.0 %", "R@5 = 80.0 %", "R@10 = 100.0 %", "R@20 = 100.0 %"]
    assert {"1", "20", "100 %", "K (videos looked at)", "dashed: chance"} <= set(texts(svg))
    assert "stroke-dasharray" in svg


def test_bars_are_as_high_as_their_shares_in_their_order_and_empty_bins_say_so():
    svg = bars([Bar("(0, 0.2]", 0.25, "8 <queries>"), Bar("(0.2, 0.4]", None, "no"), Bar("last", 0.5, "2")], "M/V")
    assert tooltips(svg) == ["8 <queries>", "2"]
    assert abs(height(marks(svg, "2")[0])) == pytest.approx(2 * abs(height(marks(svg, "8")[0])), rel=0.01)
    said = texts(svg)
    assert {"25", "none", "50"} <= set(said)
    assert [text for text in said if text in ("(0, 0.2]", "(0.2, 0.4]", "last")] == ["(0, 0.2]", "(0.2, 0.4]", "last"]


def test_a_time_line_shows_attention_the_predicted_moment_and_the_true_one():
    attention = [Span(0, 10, 0.5), Span(10, 20, 1.0)]
    svg = timeline(20.0, attention, Span(9, 12), [Span(10, 14)])
    assert tooltips(svg) == [
        "0 to 10 s: attention 0.50", "10 to 20 s: attention 1.00", "predicted: 9.0 to 12.0 s", "true: 10.0 to 14.0 s",
    ]  # fmt: skip
    low, high = (abs(height(marks(svg, f"{start} to")[0])) for start in (0, 10))
    assert high == pytest.approx(2 * low, rel=0.01)
    assert marks(svg, "predicted")[0].get("fill") == "var(--accent)"
    assert marks(svg, "true")[0].get("fill") == "var(--true)"
    assert [text for text in texts(svg) if text.endswith(" s")] == [f"{t:.0f} s" for t in np.linspace(0, 20, 7)]


def test_a_time_line_of_a_video_of_no_length_can_be_drawn():
    assert "predicted: 0.0 to 0.0 s" in tooltips(timeline(0.0, [Span(0, 0)], Span(0, 0), []))


@pytest.mark.parametrize("costs", [(1.0, 10.0, 1234.0), (5.0, 5.0, 5.0), (0.0, 1.0, 2.0)])
def test_the_trade_off_names_methods_with_their_intervals(costs):
    points = [Point(f"way {i}", cost, 50 + i, 45.0, 60.0) for i, cost in enumerate(costs)]
    svg = trade_off(points, "GFLOPs", "SumR")
    assert tooltips(svg) == [f"way {i}: {50 + i:.1f} (45.0 to 60.0) at {c:.3g}" for i, c in enumerate(costs)]
    assert {"way 0", "way 1", "way 2", "GFLOPs", "SumR"} <= set(texts(svg))
    assert "NaN" not in svg


def test_a_chart_of_a_page_has_no_colour_of_its_own_and_needs_nothing_outside():
    svg = trade_off([Point("a", 1.0, 2.0, 1.0, 3.0), Point("b", 2.0, 2.0, 1.0, 3.0)], "cost", "value")
    painted = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) - {"none", "transparent"}
    assert painted
    assert all(colour.startswith("var(--") for colour in painted)
    assert not re.search(r"https?://", svg.replace("http://www.w3.org/2000/svg", ""))
    assert "font-family" not in svg


def test_a_chart_as_a_file_of_its_own_has_the_light_colours():
    file = standalone(bars([Bar("a", 0.5, "n")], "x"))
    root = drawn(file)
    assert "var(" not in file
    assert root[0].get("fill") == "#fff"
    assert int(root.get("width")) > 0
