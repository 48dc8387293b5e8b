"""Makes docs/RESULTS.md and its charts from the study of the demo benchmark.

    python docs/make_results.py --study build/study

What is said about the paper's findings is written here by hand; every other sentence, table and chart comes from the
study.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from qasir.evaluation.report.drawing import standalone
from qasir.files.whole import write_whole
from qasir.study.findings import Finding, findings
from qasir.study.results import Result, read_tables

DOCS = Path(__file__).parent
RECALLS = ("R@1", "R@5", "R@10", "R@100", "SumR")
NAMES = ("trade_off", "grid", "resolution", "model_size", "sparse", "pooling", "moment_ratio", "ways")
INTRODUCTION = DOCS / "results" / "introduction.md"


def main(study: Annotated[Path, typer.Option(help="--output of jobs/run_study.py.")]) -> None:
    results = read_tables(study)
    parts = [INTRODUCTION.read_text(encoding="utf-8").rstrip()]
    for name, finding in zip(NAMES, findings(results), strict=True):
        if finding.chart:
            write_whole(DOCS / "results" / f"{name}.svg", standalone(finding.chart))
        parts.append(section(name, finding))
    parts.append(every_setting([one for one in results if one.is_done]))
    write_whole(DOCS / "RESULTS.md", "\n\n".join(parts) + "\n")


def section(name: str, finding: Finding) -> str:
    parts = [f"## {finding.question}", "\n".join(f"- {sentence}" for sentence in finding.sentences)]
    if finding.chart:
        parts.append(f"![{finding.question}](results/{name}.svg)")
    if finding.rows:
        parts.append(table(finding.columns, finding.rows))
    return "\n\n".join(parts)


def every_setting(results: list[Result]) -> str:
    columns = ("setting", "kind", *RECALLS, "95 %", "encodings a video", "GFLOPs a video", "GFLOPs a query")
    rows = [
        [one["label"], one["kind"], *(f"{one[name]:.1f}" for name in RECALLS),
         f"{one['SumR_low']:.0f} to {one['SumR_high']:.0f}", f"{one['encodings_per_video']:.1f}",
         f"{one['gflops_per_video']:.3g}", f"{one['gflops_per_query']:.2g}"]
        for one in results
    ]  # fmt: skip
    return f"## Every setting\n\n{table(columns, rows)}"


def table(columns: Sequence[str], rows: list[list[str]]) -> str:
    lines = [list(columns), ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    typer.run(main)
