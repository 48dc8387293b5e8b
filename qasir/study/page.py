"""Renders the study's page."""

from collections.abc import Sequence

import numpy as np

from qasir.evaluation.metrics import RECALL_AT
from qasir.evaluation.report.template import render
from qasir.study.findings import number
from qasir.study.questions import findings
from qasir.study.results import Result


def render_study(results: Sequence[Result], *, title: str, tuned: bool) -> str:
    """One self-contained HTML page. tuned: whether what settings left open was chosen on validation queries."""
    done = [result.row for result in results if result.is_done]
    n_videos = max((row["n_videos"] for row in done), default=0)
    return render(
        "study/page.html",
        title=title,
        findings=findings(results),
        done=done,
        failed=[result.row for result in results if not result.is_done],
        imported=any(row["features"] is not None for row in done),
        number=number,
        n_done=len(done),
        n_failed=len(results) - len(done),
        n_videos=n_videos,
        n_queries=max((row["n_queries"] for row in done), default=0),
        chance=float(np.sum([min(100.0, 100.0 * k / max(n_videos, 1)) for k in RECALL_AT])),
        tuned=tuned,
    )
