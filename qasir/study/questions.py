"""What a study's results say: for each question a sentence made from the numbers, and a chart."""

from collections.abc import Sequence

from qasir.study.comparing import SUMR, pareto, price
from qasir.study.comparison_charts import Axis, Series, series_chart
from qasir.study.encoder_questions import grid_size, keyframes, model_size, moment_ratio, resolution, sparse
from qasir.study.findings import Finding, number, point_of, shown
from qasir.study.method_questions import pooling, ways
from qasir.study.results import Result
from qasir.study.settings import KINDS


def findings(results: Sequence[Result]) -> list[Finding]:
    """The answers, in the order of the page. Settings that failed take no part."""
    there = [result for result in results if result.is_done]
    models = list(dict.fromkeys(one["model"] for one in there))
    there.sort(key=lambda one: (models.index(one["model"]), one["grid"]))
    if not there:
        return []
    answers = (trade_off, grid_size, resolution, model_size, sparse, keyframes, pooling, moment_ratio, ways)
    return [answer(there) for answer in answers]


def trade_off(results: Sequence[Result]) -> Finding:
    front, cost = pareto(results), price(results)
    numbers = {id(result): str(i) for i, result in enumerate(front, start=1)}
    series = [
        Series(
            kind, [point_of(r, cost.of(r), numbers.get(id(r), "")) for r in results if r["kind"] == kind], joined=False
        )
        for kind in KINDS
        if any(r["kind"] == kind for r in results)
    ]
    best, cheapest = front[-1], front[0]
    sentences = [f"Of {len(results)} settings {len(front)} are on the Pareto front: nothing as cheap does better."]
    if cost.unit != "GFLOPs":
        sentences.append("What encoding imported features cost is not known: rows a video stand for it.")
    if best is not cheapest:
        near = next(one for one in front if one[SUMR] >= 0.9 * best[SUMR])
        sentences.append(f"The best, {best['label']}, reaches SumR {shown(best)} for {cost.of(best):.3g} {cost.unit}.")
        if near is not best:
            sentences.append(
                f"Nine tenths of that, {shown(near)}, are had for {cost.of(near):.3g} {cost.unit}, "
                f"{cost.of(best) / cost.of(near):.1f} times less, with {near['label']}."
            )
    return Finding(
        "What does performance cost?",
        sentences,
        series_chart(
            series, Axis(cost.axis, log=True), SUMR, front=[point_of(r, cost.of(r)) for r in front],
        ),
        ("", "on the front", "SumR (95 %)", "GFLOPs a video", "GFLOPs a query", "encodings a video"),
        [
            [str(i), r["label"], shown(r), number(r["gflops_per_video"], 3), number(r["gflops_per_query"], 2),
             f"{r['encodings_per_video']:.1f}"]
            for i, r in enumerate(front, start=1)
        ],
    )  # fmt: skip
