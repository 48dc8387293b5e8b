"""What a study's results say: for each question a sentence made from the numbers, and a chart."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qasir.evaluation.metrics import paired_difference
from qasir.evaluation.report.evaluation_charts import Point
from qasir.study.comparison_charts import Axis, Row, Series, dot_chart, series_chart
from qasir.study.results import Result, short_name
from qasir.study.settings import KINDS

_ENCODER = ("model", "pretrained", "grid", "image_size", "fps", "fit", "precision")
_WORST, _SUMR = 1e9, "SumR"


@dataclass(frozen=True)
class Finding:
    """A question, its answer in sentences, its chart (SVG, "" when there is nothing to draw), and a table if it has one."""

    question: str
    sentences: list[str]
    chart: str = ""
    columns: Sequence[str] = ()
    rows: list[list[str]] = field(default_factory=list)


def findings(results: Sequence[Result]) -> list[Finding]:
    """The answers, in the order of the page. Settings that failed take no part."""
    there = [result for result in results if result.is_done]
    models = list(dict.fromkeys(one["model"] for one in there))
    there.sort(key=lambda one: (models.index(one["model"]), one["grid"]))
    if not there:
        return []
    answers = (trade_off, grid_size, resolution, model_size, sparse, pooling, moment_ratio, ways)
    return [answer(there) for answer in answers]


def pareto(results: Iterable[Result]) -> list[Result]:
    """Those that nothing beats: no other costs as little or less and performs better; cheapest first."""
    front: list[Result] = []
    for result in sorted(results, key=lambda one: (gflops(one), -one[_SUMR])):
        if not front or result[_SUMR] > front[-1][_SUMR]:
            front.append(result)
    return front


def gflops(result: Result) -> float:
    """GFLOPs of encoding a video and answering a query."""
    return float(result["gflops_per_video"] + result["gflops_per_query"])


def trade_off(results: Sequence[Result]) -> Finding:
    front = pareto(results)
    numbers = {id(result): str(i) for i, result in enumerate(front, start=1)}
    series = [
        Series(kind, [_point(r, gflops(r), numbers.get(id(r), "")) for r in results if r["kind"] == kind], joined=False)
        for kind in KINDS
        if any(r["kind"] == kind for r in results)
    ]
    best, cheapest = front[-1], front[0]
    sentences = [f"Of {len(results)} settings {len(front)} are on the Pareto front: nothing as cheap does better."]
    if best is not cheapest:
        near = next(one for one in front if one[_SUMR] >= 0.9 * best[_SUMR])
        sentences.append(f"The best, {best['label']}, reaches SumR {_value(best)} for {gflops(best):.3g} GFLOPs.")
        if near is not best:
            sentences.append(
                f"Nine tenths of that, {_value(near)}, are had for {gflops(near):.3g} GFLOPs, {gflops(best) / gflops(near):.1f} "
                f"times less, with {near['label']}."
            )
    return Finding(
        "What does performance cost?",
        sentences,
        series_chart(
            series, Axis("GFLOPs: encoding a video and answering a query", log=True), _SUMR,
            front=[_point(r, gflops(r)) for r in front],
        ),
        ("", "on the front", "SumR (95 %)", "GFLOPs a video", "GFLOPs a query", "encodings a video"),
        [
            [str(i), r["label"], _value(r), f"{r['gflops_per_video']:.3g}", f"{r['gflops_per_query']:.2g}",
             f"{r['encodings_per_video']:.1f}"]
            for i, r in enumerate(front, start=1)
        ],
    )  # fmt: skip


def grid_size(results: Sequence[Result]) -> Finding:
    question = "What does a larger N cost, and save?"
    lines = _lines(_plain(results), "grid")
    if not lines:
        return Finding(question, ["The study has no encoder at two grid sizes."])
    sentences = []
    for name, line in lines.items():
        first = line[0]
        told = [
            f"N = {one['grid']} saves {first['encodings_per_video'] / one['encodings_per_video']:.1f} times the encodings "
            f"of N = {first['grid']} and changes SumR by {_difference(one, first)}"
            for one in line[1:]
        ]
        sentences.append(f"{name}: SumR {_value(first)} at N = {first['grid']}; " + "; ".join(told) + ".")
    chart = series_chart(_series(lines, "grid"), Axis("N: a super image holds N x N frames"), _SUMR)
    return Finding(question, sentences, chart)


def resolution(results: Sequence[Result]) -> Finding:
    question = "What does resolution buy?"
    lines = _lines(_plain(results), "image_size")
    if not lines:
        return Finding(question, ["The study has no encoder at two image sizes."])
    sentences = []
    for name, line in lines.items():
        first, last = line[0], line[-1]
        ratio = last["gflops_per_video"] / first["gflops_per_video"]
        told = (
            f"{name}: from {first['image_size']} to {last['image_size']} px, for {ratio:.1f} times the GFLOPs, SumR changes by "
            f"{_difference(last, first)}"
        )
        best = max(line, key=lambda one: one[_SUMR])
        if best not in (first, last):
            told += f"; the best is {best['image_size']} px, {_value(best)}"
        sentences.append(f"{told}.")
    chart = series_chart(_series(lines, "image_size"), Axis("pixels a side of a super image"), _SUMR)
    return Finding(question, sentences, chart)


def model_size(results: Sequence[Result]) -> Finding:
    question = "What does a larger model buy?"
    plain = _plain(results)
    same = [name for name in _ENCODER if name not in ("model", "pretrained", "image_size", "precision")]
    groups = [group for group in _grouped(plain, same).values() if len({one["model"] for one in group}) > 1]
    if not groups:
        return Finding(question, ["The study has no two models at one grid size."])
    sentences = []
    for group in groups:
        natural = sorted(_first_of_each(group, "model"), key=lambda one: one["parameters"])
        small, large = natural[0], natural[-1]
        sentences.append(
            f"N = {large['grid']}: {_model(large)} ({large['parameters'] / 1e6:.1f} M parameters) instead of {_model(small)} "
            f"({small['parameters'] / 1e6:.1f} M) costs {large['gflops_per_video'] / small['gflops_per_video']:.1f} times the "
            f"GFLOPs a video and changes SumR by {_difference(large, small)}."
        )
    models = list(dict.fromkeys(one["model"] for group in groups for one in group))
    series = []
    for model in models:
        mine = _first_of_each([one for one in plain if one["model"] == model], "grid")
        points = [_point(one, one["gflops_per_video"], f"N={one['grid']}") for one in mine]
        series.append(Series(short_name(model), sorted(points, key=lambda point: point.cost)))
    return Finding(question, sentences, series_chart(series, Axis("GFLOPs to encode a video", log=True), _SUMR))


def sparse(results: Sequence[Result]) -> Finding:
    question = "Super images, or as many single frames?"
    plain = _plain(results)
    others = [name for name in _ENCODER if name != "grid"]
    pairs = []
    for frames in (one for one in results if one["kind"] == "sparse"):
        n = int(frames["aggregation"].split(":")[1])
        match = [one for one in plain if one["grid"] == n and all(one[name] == frames[name] for name in others)]
        pairs += [(image, frames) for image in match]
    if not pairs:
        return Finding(question, ["The study has no sparse:N beside super images of grid N."])
    name = _naming([image for image, _ in pairs], "grid")
    sentences = [
        f"{name(image)}N = {image['grid']}, {image['encodings_per_video']:.1f} encodings a video: super images {_value(image)}, as many "
        f"single frames {_value(frames)}, a difference of {_difference(image, frames)}."
        for image, frames in pairs
    ]
    series = []
    for what, side in (("super images", 0), ("single frames", 1)):
        for key in dict.fromkeys(name(pair[0]) for pair in pairs):
            chosen = [pair for pair in pairs if name(pair[0]) == key]
            points = [_point(pair[side], pair[0]["grid"]) for pair in chosen]
            series.append(Series(key + what, sorted(points, key=lambda point: point.cost)))
    chart = series_chart(series, Axis("N, and as many single frames as super images of N x N"), _SUMR)
    return Finding(question, sentences, chart)


def pooling(results: Sequence[Result]) -> Finding:
    question = "Attention, or pooling?"
    zero_shot = [one for one in results if one["kind"] == "zero-shot"]
    by_encoder = _grouped(zero_shot, _ENCODER)
    compared = [group for group in by_encoder.values() if len({one["aggregation"] for one in group}) > 1]
    if not compared:
        return Finding(question, ["The study has no encoder with two aggregations."])
    firsts = [_first_of_each(group, "aggregation") for group in compared]
    name = _naming([group[0] for group in firsts], "grid")
    sentences = []
    for group in firsts:
        attention = next((one for one in group if one["aggregation"] == "attention"), group[0])
        told = [
            f"{_difference(attention, other)} over {other['aggregation']}" for other in group if other is not attention
        ]
        tau = f", temperature {attention['temperature']:g}" if attention["temperature"] is not None else ""
        sentences.append(
            f"{name(attention)}N = {attention['grid']}: {attention['aggregation']}{tau} {_value(attention)}: {', '.join(told)}."
        )
    rows = [
        Row(one["label"], one[_SUMR], one[f"{_SUMR}_low"], one[f"{_SUMR}_high"], f"{name(group[0])}{group[0]['grid']}")
        for group in compared
        for one in group
    ]
    return Finding(question, sentences, dot_chart(rows, _SUMR))


def moment_ratio(results: Sequence[Result]) -> Finding:
    question = "Are short moments harder?"
    plain = [one for one in _plain(results) if any(b["n_queries"] for b in one["by_mv"])]
    if not plain:
        return Finding(question, ["The queries have no moments."])
    same = [name for name in _ENCODER if name != "grid"]
    lines = next(iter(_grouped(plain, same).values()))
    bins = [b for b in lines[0]["by_mv"] if b["n_queries"]]
    ticks = {float(i): f"({b['lo']:g}, {b['hi']:g}]: {b['n_queries']}" for i, b in enumerate(bins)}
    series, sentences = [], []
    for one in lines:
        filled = [b for b in one["by_mv"] if b["n_queries"]]
        points = [Point("", i, b["R@10"], b["R@10"], b["R@10"]) for i, b in enumerate(filled)]
        series.append(Series(f"N = {one['grid']}", points))
        told = ", ".join(f"{b['R@10']:.1f} in ({b['lo']:g}, {b['hi']:g}]" for b in filled)
        sentences.append(f"{_model(one)} at N = {one['grid']}, R@10 by the moment's share of its video: {told}.")
    return Finding(
        question,
        sentences,
        series_chart(series, Axis("M/V: moment over video length, and queries", ticks=ticks), "R@10"),
    )


def ways(results: Sequence[Result]) -> Finding:
    question = "Zero-shot, fine-tuned, two-stage or hybrid?"
    plain = {_key(one, _ENCODER): one for one in reversed(_plain(results))}
    rows: list[Row] = []
    sentences: list[str] = []

    def add(one: Result, group: str, *, is_base: bool = False) -> None:
        rows.append(Row(_shorter(one["label"]), one[_SUMR], one["SumR_low"], one["SumR_high"], group, is_base))

    for kind in ("fine-tuned", "two-stage", "hybrid"):
        for base_key, group in _grouped([one for one in results if one["kind"] == kind], _ENCODER).items():
            base = plain.get(base_key)
            if base is not None:
                add(base, f"{kind} {base_key}", is_base=True)
            for one in group:
                add(one, f"{kind} {base_key}")
                if base is None:
                    continue
                saved = ""
                if kind == "hybrid":
                    saved = f", for {one['gflops_per_video'] / base['gflops_per_video']:.2f} times the GFLOPs a video"
                sentences.append(
                    f"{one['label']}: {_value(one)}, {_difference(one, base)} over {base['label']}{saved}."
                )
    if not rows:
        return Finding(question, ["The study has zero-shot settings only."])
    return Finding(question, sentences, dot_chart(rows, f"{_SUMR}; hollow: the same encoder, zero-shot"))


def difference(one: Result, other: Result) -> tuple[float, float, float]:
    """SumR of one minus the other on the queries that both answer, with its 95 % interval over videos."""
    if one.query_ids == other.query_ids:
        ours, theirs, groups = one.rank, other.rank, one.video_ids
    else:
        place = {query_id: i for i, query_id in enumerate(other.query_ids)}
        kept = [(i, place[query_id]) for i, query_id in enumerate(one.query_ids) if query_id in place]
        mine, its = (np.array(side, dtype=np.int64) for side in zip(*kept, strict=True))
        ours, theirs, groups = one.rank[mine], other.rank[its], [one.video_ids[i] for i in mine]
    return paired_difference(ours, theirs, groups)[_SUMR]


def _plain(results: Sequence[Result]) -> list[Result]:
    """One zero-shot result of each encoder: by attention where there is one, at the temperature named first."""
    zero_shot = [one for one in results if one["kind"] == "zero-shot"]
    ordered = sorted(zero_shot, key=lambda one: one["aggregation"] != "attention")
    groups = _grouped(ordered, _ENCODER)
    return [groups[key][0] for key in _grouped(zero_shot, _ENCODER)]


def _lines(results: Sequence[Result], along: str) -> dict[str, list[Result]]:
    """Results that differ in one column only, two or more, in its order; named by what differs between the lines."""
    fixed = [name for name in _ENCODER if name != along]
    groups = [
        sorted(group, key=lambda one: one[along]) for group in _grouped(results, fixed).values() if len(group) > 1
    ]
    name = _naming([group[0] for group in groups], along)
    return {name(group[0]).rstrip(", ") or _model(group[0]): group for group in groups}


def _naming(results: Sequence[Result], along: str) -> Callable[[Result], str]:
    """A function that names what differs among these results apart from one column: "192 px, ", say, or nothing."""
    written = {
        "model": "{}", "pretrained": "{}", "grid": "N = {}", "image_size": "{} px", "fps": "{:g} fps", "fit": "{}",
        "precision": "{}",
    }  # fmt: skip
    varying = [name for name in _ENCODER if name != along and len({one[name] for one in results}) > 1]
    if "model" in varying:
        varying = [name for name in varying if name != "pretrained"]
    return lambda one: "".join(
        written[name].format(short_name(one[name]) if name == "model" else one[name]) + ", " for name in varying
    )


def _series(lines: dict[str, list[Result]], along: str) -> list[Series]:
    return [Series(name, [_point(one, one[along]) for one in line]) for name, line in lines.items()]


def _point(result: Result, x: float, text: str = "") -> Point:
    return Point(text, float(x), result[_SUMR], result["SumR_low"], result["SumR_high"])


def _model(result: Result) -> str:
    return short_name(result["model"])


def _value(result: Result) -> str:
    return f"{result[_SUMR]:.1f} ({result['SumR_low']:.0f} to {result['SumR_high']:.0f})"


def _difference(one: Result, other: Result) -> str:
    value, low, high = difference(one, other)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _grouped(results: Iterable[Result], names: Sequence[str]) -> dict[tuple[Any, ...], list[Result]]:
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for one in results:
        groups.setdefault(_key(one, names), []).append(one)
    return groups


def _first_of_each(results: Iterable[Result], name: str) -> list[Result]:
    firsts: dict[Any, Result] = {}
    for one in results:
        firsts.setdefault(one[name], one)
    return list(firsts.values())


def _key(result: Result, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(result[name] for name in names)


def _shorter(label: str) -> str:
    return label if len(label) <= 52 else label[:51] + "…"
