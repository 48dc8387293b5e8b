"""Renders the report page from an evaluation."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from qasir.evaluate import Evaluation
from qasir.metrics import RECALL_AT, Bin
from qasir.report.charts import Bar, bars, recall_curve
from qasir.report.examples import example, pick
from qasir.search import IndexSearcher


def render_report(evaluation: Evaluation, searcher: IndexSearcher, *, title: str) -> str:
    """One self-contained HTML page: metrics, curves, M/V bins, and examples answered right and wrong."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("qasir.report") / "page.html").read_text(encoding="utf-8"))
    right, wrong = pick(evaluation)
    telling = next((name for name in ("R@10", "R@5") if name not in evaluation.saturated), "R@1")
    return template.render(
        title=title,
        evaluation=evaluation,
        names=[f"R@{k}" for k in RECALL_AT] + ["SumR", "MedR", "MRR"],
        curve=recall_curve(evaluation.rank, evaluation.n_videos),
        ratio_chart=bars(
            [_bar(b, telling) for b in evaluation.by_mv], f"M/V: moment over video length; bars: {telling} in %"
        ),
        has_moments=any(b.n_queries for b in evaluation.by_mv),
        right=[example(evaluation, searcher, q) for q in right],
        wrong=[example(evaluation, searcher, q) for q in wrong],
        n_right=int((evaluation.rank == 1).sum()),
        grid=searcher.index.spec.grid,
        uri=searcher.index.uri,
    )


def _bar(bin_: Bin, metric: str) -> Bar:
    label = f"({bin_.lo:g}, {bin_.hi:g}]"
    if bin_.metrics is None:
        return Bar(label, None, "no queries")
    return Bar(label, bin_.metrics[metric] / 100, f"{bin_.n_queries} queries: {metric} {bin_.metrics[metric]:.1f} %")
