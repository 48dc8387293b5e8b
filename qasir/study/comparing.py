"""A study's results beside each other: what differs between them, which are best, and by how much."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qasir.evaluation.metrics import paired_difference
from qasir.study.results import Result, short_name
from qasir.study.settings import GIVEN, SAMPLING

ENCODER = ("model", "pretrained", "grid", "image_size", "fps", *SAMPLING, "fit", "precision", *GIVEN)
"""The columns that name an encoder."""
SUMR = "SumR"


@dataclass(frozen=True)
class Price:
    """What results are compared by as costs: of each, in this unit, written over a column and along an axis as said."""

    unit: str
    of: Callable[[Result], float]
    axis: str


def price(results: Iterable[Result]) -> Price:
    """GFLOPs where all were encoded for the study; of features that others computed only rows are known."""
    return _GFLOPS if all(one["gflops_per_video"] is not None for one in results) else _ROWS


def pareto(results: Sequence[Result]) -> list[Result]:
    """Those that nothing beats: no other costs as little or less and performs better; cheapest first."""
    cost = price(results).of
    front: list[Result] = []
    for result in sorted(results, key=lambda one: (cost(one), -one[SUMR])):
        if not front or result[SUMR] > front[-1][SUMR]:
            front.append(result)
    return front


def gflops(result: Result) -> float:
    """GFLOPs of encoding a video and answering a query."""
    return float(result["gflops_per_video"] + result["gflops_per_query"])


_GFLOPS = Price("GFLOPs", gflops, "GFLOPs: encoding a video and answering a query")
_ROWS = Price("rows a video", lambda one: float(one["encodings_per_video"]), "rows a video, of imported features")


def difference(one: Result, other: Result) -> tuple[float, float, float]:
    """SumR of one minus the other on the queries that both answer, with its 95 % interval over videos."""
    if one.query_ids == other.query_ids:
        ours, theirs, groups = one.rank, other.rank, one.video_ids
    else:
        place = {query_id: i for i, query_id in enumerate(other.query_ids)}
        kept = [(i, place[query_id]) for i, query_id in enumerate(one.query_ids) if query_id in place]
        mine, its = (np.array(side, dtype=np.int64) for side in zip(*kept, strict=True))
        ours, theirs, groups = one.rank[mine], other.rank[its], [one.video_ids[i] for i in mine]
    return paired_difference(ours, theirs, groups)[SUMR]


def plain_results(results: Sequence[Result]) -> list[Result]:
    """One zero-shot result of each encoder: by attention where there is one, at the temperature named first."""
    zero_shot = [one for one in results if one["kind"] == "zero-shot"]
    ordered = sorted(zero_shot, key=lambda one: one["aggregation"] != "attention")
    groups = grouped(ordered, ENCODER)
    return [groups[key][0] for key in grouped(zero_shot, ENCODER)]


def lines_along(results: Sequence[Result], along: str) -> dict[str, list[Result]]:
    """Results that differ in one column only, two or more, in its order; named by what differs between the lines."""
    fixed = [name for name in ENCODER if name != along]
    groups = [sorted(group, key=lambda one: one[along]) for group in grouped(results, fixed).values() if len(group) > 1]
    name = naming([group[0] for group in groups], along)
    return {name(group[0]).rstrip(", ") or model_of(group[0]): group for group in groups}


def naming(results: Sequence[Result], along: str) -> Callable[[Result], str]:
    """A function that names what differs among these results apart from one column: "192 px, ", say, or nothing."""
    written = {
        "model": "{}", "pretrained": "{}", "grid": "N = {}", "image_size": "{} px", "fps": "{:g} fps",
        "sampling": "{}", "max_gap_s": "at most {:g} s apart", "fit": "{}", "precision": "{}",
        "features": "{}", "query_features": "queries {}",
    }  # fmt: skip
    varying = [name for name in ENCODER if name != along and len({one[name] for one in results}) > 1]
    if "model" in varying:
        varying = [name for name in varying if name != "pretrained"]
    return lambda one: "".join(
        written[name].format(short_name(one[name]) if name == "model" else one[name]) + ", "
        for name in varying
        if one[name] is not None
    )


def model_of(result: Result) -> str:
    return short_name(result["model"])


def grouped(results: Iterable[Result], names: Sequence[str]) -> dict[tuple[Any, ...], list[Result]]:
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for one in results:
        groups.setdefault(key_of(one, names), []).append(one)
    return groups


def first_of_each(results: Iterable[Result], name: str) -> list[Result]:
    firsts: dict[Any, Result] = {}
    for one in results:
        firsts.setdefault(one[name], one)
    return list(firsts.values())


def key_of(result: Result, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(result[name] for name in names)
