"""Draws Altair charts as SVG for pages and documents, in the colours that the pages' style sheet names.

Altair and vl-convert rather than matplotlib: an element's colour may be a CSS variable, so that one drawing follows its
page into the dark, and what an element says (a channel, `description`) becomes its tooltip; matplotlib does neither by
itself, and takes two to four times as long for a chart. Static rather than interactive: Vega's code would add 0.9 MB to
every page.
"""

import re
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert

from qasir.evaluation.report.template import BASE, source

INK, SOFT, LINE, PAPER = "var(--ink)", "var(--soft)", "var(--line)", "var(--paper)"
ACCENT, BLUE, TRUE, VIOLET = "var(--accent)", "var(--blue)", "var(--true)", "var(--violet)"
GOLD, WRONG = "var(--gold)", "var(--wrong)"

_SVG = "http://www.w3.org/2000/svg"
_LABEL = "aria-label"
_ATTRIBUTES_UNUSED = ("role", "aria-roledescription", "aria-hidden", "pointer-events", "font-family", "class")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")

ElementTree.register_namespace("", _SVG)


def specified(chart: alt.LayerChart | alt.FacetChart | alt.VConcatChart) -> dict[str, Any]:
    """A chart's Vega-Lite specification, with the look that all charts share."""
    return (
        chart.configure(font="sans-serif", background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            aria=False, domain=False, ticks=False, gridColor=LINE, labelColor=SOFT, labelFontSize=11, labelPadding=6,
            titleColor=INK, titleFontSize=12, titleFontWeight="normal", titlePadding=8,
        )
        .configure_legend(
            aria=False, labelColor=INK, labelFontSize=12, labelLimit=240, symbolSize=70, symbolOpacity=1, title=None,
        )
        .to_dict()
    )  # fmt: skip


def spare(texts: Iterable[str]) -> int:
    """Pixels to leave beside texts at an edge: they are measured in a narrow font; a page's may be a fifth wider."""
    return round(1.3 * max(map(len, texts), default=0))


def drawn(spec: dict[str, Any], title: str, *, kind: str = "chart") -> str:
    """A specification as an <svg> element; kind: its class in a page.

    A mark's `description` is shown when one points to it. Text has no font of its own, so that the page's is used.
    """
    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec))
    for element in list(root.iter()):
        _simplify(element)
    root.attrib.update({"class": kind, "role": "img", _LABEL: title})
    return ElementTree.tostring(root, encoding="unicode")


def standalone(chart: str) -> str:
    """A drawing as a file of its own, in the pages' light colours, which any viewer of SVG understands."""
    page = source(BASE)
    colours = dict(re.findall(r"(--\w+):(#\w+);", page[: page.index("@media")]))
    background = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    found = chart.replace("<svg ", '<svg font-family="sans-serif" ', 1).replace(">", f">{background}", 1)
    return re.sub(r"var\((--\w+)\)", lambda name: colours[name[1]], found) + "\n"


def _simplify(element: ElementTree.Element) -> None:
    """Make what an element says its tooltip, and leave out what no reader sees."""
    for child in list(element):
        if child.get("class") in ("background", "foreground") or (child.tag.endswith("}g") and _is_empty(child)):
            element.remove(child)
    said = element.attrib.pop(_LABEL, None)
    if said is not None and element.get("role") == "graphics-symbol":
        title = ElementTree.SubElement(element, f"{{{_SVG}}}title")
        title.text = said
    for name in _ATTRIBUTES_UNUSED:
        element.attrib.pop(name, None)
    for name, value in element.attrib.items():
        element.set(name, _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", value))


def _is_empty(group: ElementTree.Element) -> bool:
    return all(child.tag.endswith("}g") and _is_empty(child) for child in group)
