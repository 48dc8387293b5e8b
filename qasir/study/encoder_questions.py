"""Questions about encoders: grid, resolution, model, single frames for super images, keyframes for evenly spaced ones,
and moments of all lengths."""

from collections.abc import Callable, Sequence
from math import log

from qasir.evaluation.report.evaluation_charts import Point
from qasir.study.comparing import ENCODER, SUMR, first_of_each, grouped, lines_along, model_of, naming, plain_results
from qasir.study.comparison_charts import Axis, Series, series_chart
from qasir.study.findings import Finding, change, point_of, series_of, shown
from qasir.study.results import Result, short_name
from qasir.study.settings import GIVEN, SAMPLING

ENCODINGS = "encodings_per_video"


def grid_size(results: Sequence[Result]) -> Finding:
    question = "What does a larger N cost, and save?"
    lines = lines_along(plain_results(results), "grid")
    if not lines:
        return Finding(question, ["The study has no encoder at two grid sizes."])
    sentences = []
    for name, line in lines.items():
        first = line[0]
        told = [
            f"N = {one['grid']} saves {first['encodings_per_video'] / one['encodings_per_video']:.1f} times the "
            f"encodings of N = {first['grid']} and changes SumR by {change(one, first)}"
            for one in line[1:]
        ]
        sentences.append(f"{name}: SumR {shown(first)} at N = {first['grid']}; " + "; ".join(told) + ".")
    chart = series_chart(series_of(lines, "grid"), Axis("N: a super image holds N x N frames"), SUMR)
    return Finding(question, sentences, chart)


def resolution(results: Sequence[Result]) -> Finding:
    question = "What does resolution buy?"
    lines = lines_along(plain_results(results), "image_size")
    if not lines:
        return Finding(question, ["The study has no encoder at two image sizes."])
    sentences = []
    for name, line in lines.items():
        first, last = line[0], line[-1]
        ratio = last["gflops_per_video"] / first["gflops_per_video"]
        told = (
            f"{name}: from {first['image_size']} to {last['image_size']} px, for {ratio:.1f} times the GFLOPs, SumR "
            f"changes by {change(last, first)}"
        )
        best = max(line, key=lambda one: one[SUMR])
        if best not in (first, last):
            told += f"; the best is {best['image_size']} px, {shown(best)}"
        sentences.append(f"{told}.")
    chart = series_chart(series_of(lines, "image_size"), Axis("pixels a side of a super image"), SUMR)
    return Finding(question, sentences, chart)


def model_size(results: Sequence[Result]) -> Finding:
    question = "What does a larger model buy?"
    plain = plain_results(results)
    same = [name for name in ENCODER if name not in ("model", "pretrained", "image_size", "precision", *GIVEN)]
    groups = [group for group in grouped(plain, same).values() if len({one["model"] for one in group}) > 1]
    if not groups:
        return Finding(question, ["The study has no two models at one grid size."])
    is_costed = all(one["parameters"] is not None for group in groups for one in group)
    size = "parameters" if is_costed else "embedding_dim"
    sentences = []
    for group in groups:
        natural = sorted(first_of_each(group, "model"), key=lambda one: one[size])
        small, large = natural[0], natural[-1]
        if is_costed:
            sentences.append(
                f"N = {large['grid']}: {model_of(large)} ({large['parameters'] / 1e6:.1f} M parameters) instead of "
                f"{model_of(small)} ({small['parameters'] / 1e6:.1f} M) costs "
                f"{large['gflops_per_video'] / small['gflops_per_video']:.1f} times the GFLOPs a video and changes "
                f"SumR by {change(large, small)}."
            )
        else:
            sentences.append(
                f"N = {large['grid']}: features of {model_of(large)} ({large[size]} dimensions) instead of "
                f"{model_of(small)} ({small[size]}) change SumR by {change(large, small)}."
            )
    models = list(dict.fromkeys(one["model"] for group in groups for one in group))
    along = "gflops_per_video" if is_costed else ENCODINGS
    series = []
    for model in models:
        mine = first_of_each([one for one in plain if one["model"] == model], "grid")
        points = [point_of(one, one[along], f"N={one['grid']}") for one in mine]
        series.append(Series(short_name(model), sorted(points, key=lambda point: point.cost)))
    axis = Axis("GFLOPs to encode a video" if is_costed else "rows a video", log=True)
    return Finding(question, sentences, series_chart(series, axis, SUMR))


def sparse(results: Sequence[Result]) -> Finding:
    question = "Super images, or as many single frames?"
    plain = plain_results(results)
    others = [name for name in ENCODER if name != "grid"]
    pairs = []
    for frames in (one for one in results if one["kind"] == "sparse"):
        n = int(frames["aggregation"].split(":")[1])
        match = [one for one in plain if one["grid"] == n and all(one[name] == frames[name] for name in others)]
        pairs += [(image, frames) for image in match]
    if not pairs:
        return Finding(question, ["The study has no sparse:N beside super images of grid N."])
    name = naming([image for image, _ in pairs], "grid")
    sentences = [
        f"{name(image)}N = {image['grid']}, {image['encodings_per_video']:.1f} encodings a video: super images "
        f"{shown(image)}, as many single frames {shown(frames)}, a difference of {change(image, frames)}."
        for image, frames in pairs
    ]
    series = _by_grid(pairs, ("super images", "single frames"), name)
    chart = series_chart(series, Axis("N, and as many single frames as super images of N x N"), SUMR)
    return Finding(question, sentences, chart)


def keyframes(results: Sequence[Result]) -> Finding:
    question = "Keyframes, or evenly spaced frames?"
    pairs = keyframe_pairs(results)
    if not pairs:
        return Finding(question, ["The study has no keyframes beside evenly spaced frames."])
    name = naming([one for one, _ in pairs], "grid")
    sentences = [
        f"{name(one)}N = {one['grid']}: keyframes, {one[ENCODINGS]:.1f} encodings a video, {shown(one)}; evenly spaced "
        f"frames, {other['fps']:g} a second, {other[ENCODINGS]:.1f} encodings, {shown(other)}; a difference of "
        f"{change(one, other)}."
        for one, other in pairs
    ]
    series = _by_grid(pairs, ("keyframes", "evenly spaced frames"), name)
    return Finding(question, sentences, series_chart(series, Axis("N: a super image holds N x N frames"), SUMR))


def _by_grid(
    pairs: Sequence[tuple[Result, Result]], sides: tuple[str, str], name: Callable[[Result], str]
) -> list[Series]:
    """Both sides of pairs over the N of the first ones, a line for each name of those."""
    series = []
    for side, what in enumerate(sides):
        for key in dict.fromkeys(name(pair[0]) for pair in pairs):
            points = [point_of(pair[side], pair[0]["grid"]) for pair in pairs if name(pair[0]) == key]
            series.append(Series(key + what, sorted(points, key=lambda point: point.cost)))
    return series


def keyframe_pairs(results: Sequence[Result]) -> list[tuple[Result, Result]]:
    """(at keyframes, at evenly spaced frames) of encoders that are else the same and encode about as many."""
    same = [name for name in ENCODER if name not in ("fps", *SAMPLING)]
    pairs = []
    for group in grouped(plain_results(results), same).values():
        even = [one for one in group if one["sampling"] != "keyframes"]
        pairs += [(one, _as_dear(one, even)) for one in group if even and one["sampling"] == "keyframes"]
    return pairs


def _as_dear(one: Result, others: Sequence[Result]) -> Result:
    """The one of the others whose encodings a video are the nearest to as many."""
    return min(others, key=lambda other: abs(log(other[ENCODINGS] / one[ENCODINGS])))


def moment_ratio(results: Sequence[Result]) -> Finding:
    question = "Are short moments harder?"
    plain = [one for one in plain_results(results) if any(b["n_queries"] for b in one["by_mv"])]
    if not plain:
        return Finding(question, ["The queries have no moments."])
    same = [name for name in ENCODER if name != "grid"]
    lines = next(iter(grouped(plain, same).values()))
    bins = [b for b in lines[0]["by_mv"] if b["n_queries"]]
    ticks = {float(i): f"({b['lo']:g}, {b['hi']:g}]: {b['n_queries']}" for i, b in enumerate(bins)}
    series, sentences = [], []
    for one in lines:
        filled = [b for b in one["by_mv"] if b["n_queries"]]
        points = [Point("", i, b["R@10"], b["R@10"], b["R@10"]) for i, b in enumerate(filled)]
        series.append(Series(f"N = {one['grid']}", points))
        told = ", ".join(f"{b['R@10']:.1f} in ({b['lo']:g}, {b['hi']:g}]" for b in filled)
        sentences.append(f"{model_of(one)} at N = {one['grid']}, R@10 by the moment's share of its video: {told}.")
    return Finding(
        question,
        sentences,
        series_chart(series, Axis("M/V: moment over video length, and queries", ticks=ticks), "R@10"),
    )
