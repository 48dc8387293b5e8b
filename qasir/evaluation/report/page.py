"""Renders the report page from an evaluation."""

from collections.abc import Mapping

from qasir.evaluation.evaluate import Evaluation
from qasir.evaluation.metrics import RECALL_AT, Bin
from qasir.evaluation.moment_metrics import CORPUS_NAMES, MOMENTS_RANKED, NAMES
from qasir.evaluation.query_notes import Notes
from qasir.evaluation.report.evaluation_charts import Bar, Point, bars, recall_curve, trade_off
from qasir.evaluation.report.examples import example, pick
from qasir.evaluation.report.template import render
from qasir.retrieval.searcher import Searcher


def render_report(
    evaluation: Evaluation,
    searcher: Searcher,
    *,
    title: str,
    compared: Mapping[str, Evaluation] | None = None,
    notes: Notes | None = None,
    over: str = "",
) -> str:
    """One self-contained HTML page: metrics, curves, M/V bins, moments, and examples answered right and wrong.

    compared: other methods on the same queries, by name; with them the page shows performance against cost.
    notes: what was mended or left out of the query file; over: which videos count, where not all do, in words.
    """
    right, wrong = pick(evaluation)
    telling = next((name for name in ("R@10", "R@5") if name not in evaluation.saturated), "R@1")
    return render(
        "evaluation/report/page.html",
        title=title,
        evaluation=evaluation,
        ranked_by=evaluation.method.sentence(),
        names=[f"R@{k}" for k in RECALL_AT] + ["SumR", "MedR", "MeanR", "MRR"],
        curve=recall_curve(evaluation.rank, evaluation.n_videos),
        ratio_chart=bars(
            [_bar(b, telling) for b in evaluation.by_mv], f"M/V: moment over video length; bars: {telling} in %"
        ),
        has_moments=any(b.n_queries for b in evaluation.by_mv),
        moment_names=NAMES,
        corpus_names=CORPUS_NAMES,
        n_moments=MOMENTS_RANKED,
        compared=compared or {},
        over=over,
        notes=notes.lines() if notes is not None else [],
        trade_off=_trade_off(compared) if compared else "",
        right=[example(evaluation, searcher, q) for q in right],
        wrong=[example(evaluation, searcher, q) for q in wrong],
        n_right=int((evaluation.rank == 1).sum()),
        grid=searcher.side.index.spec.grid,
        sampled=searcher.side.index.spec.sampled,
        uri=searcher.side.index.uri,
    )


def _trade_off(compared: Mapping[str, Evaluation]) -> str:
    points = [Point(name, each.cost.total, each.metrics["SumR"], *each.ci95["SumR"]) for name, each in compared.items()]
    return trade_off(points, "GFLOPs: encoding a video and answering a query", "SumR")


def _bar(bin_: Bin, metric: str) -> Bar:
    label = f"({bin_.lo:g}, {bin_.hi:g}]"
    if bin_.metrics is None:
        return Bar(label, None, "no queries")
    return Bar(label, bin_.metrics[metric] / 100, f"{bin_.n_queries} queries: {metric} {bin_.metrics[metric]:.1f} %")
