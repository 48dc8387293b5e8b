"""Makes docs/RESULTS.md and its charts from the study of the demo benchmark, and its section on keyframes from those of
benchmarks/sampling.py.

    python docs/make_results.py --study build/study --sampling build/sampling

Either is made alone too; the rest of the page then stays as it is. What is said about the paper's findings is written
by hand; every other sentence, table and chart comes from the studies.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from qasir.evaluation.report.drawing import standalone
from qasir.files.whole import write_whole
from qasir.study.encoder_questions import keyframe_pairs
from qasir.study.findings import Finding, change
from qasir.study.questions import findings
from qasir.study.results import Result, read_tables

DOCS = Path(__file__).parent
RECALLS = ("R@1", "R@5", "R@10", "R@100", "SumR")
NAMES = ("trade_off", "grid", "resolution", "model_size", "sparse", "keyframes", "pooling", "moment_ratio", "ways")
INTRODUCTION = DOCS / "results" / "introduction.md"
SAMPLING = DOCS / "results" / "sampling.md"
"""What is said by hand of the section on keyframes, which begins with it."""
SETS = {"every_2_s": "at least every 2 s", "default": "the encoder's default"}
"""Folders of benchmarks/sampling.py, and where the keyframes of their videos are."""


def main(
    study: Annotated[Path | None, typer.Option(help="--output of jobs/run_study.py.")] = None,
    sampling: Annotated[Path | None, typer.Option(help="--work of benchmarks/sampling.py.")] = None,
) -> None:
    there = DOCS / "RESULTS.md"
    page = there.read_text(encoding="utf-8") if there.exists() else ""
    if study is not None:
        page = with_section(whole_page(read_tables(study)), the_section(page, heading_of(SAMPLING)))
    if sampling is not None:
        page = with_section(page, sampling_section(sampling))
    write_whole(there, page)


def whole_page(results: list[Result]) -> str:
    """All but the section on keyframes, of which this study says nothing."""
    parts = [INTRODUCTION.read_text(encoding="utf-8").rstrip()]
    for name, finding in zip(NAMES, findings(results), strict=True):
        if name == "keyframes":
            continue
        if finding.chart:
            write_whole(DOCS / "results" / f"{name}.svg", standalone(finding.chart))
        parts.append(section(name, finding))
    parts.append(every_setting([one for one in results if one.is_done]))
    return "\n\n".join(parts) + "\n"


def sampling_section(work: Path) -> str:
    columns = (
        "keyframes", "N", "sampled", "encodings a video", *RECALLS, "95 %", "keyframes minus evenly spaced (95 %)",
    )  # fmt: skip
    rows = []
    for name, where in SETS.items():
        for pair in keyframe_pairs([one for one in read_tables(work / name / "study") if one.is_done]):
            for one, what in zip(pair, ("keyframes", f"{pair[1]['fps']:g} a second"), strict=True):
                rows.append(
                    [where, str(one["grid"]), what, f"{one['encodings_per_video']:.1f}",
                     *(f"{one[recall]:.1f}" for recall in RECALLS),
                     f"{one['SumR_low']:.0f} to {one['SumR_high']:.0f}", change(*pair) if one is pair[0] else ""]
                )  # fmt: skip
    return f"{SAMPLING.read_text(encoding='utf-8').rstrip()}\n\n{table(columns, rows)}"


def heading_of(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0]


def the_section(page: str, heading: str) -> str:
    """The part of a page under a heading `## ...`, with it; nothing where there is none."""
    found = re.search(rf"^{re.escape(heading)}$.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return found[0].rstrip() if found else ""


def with_section(page: str, text: str) -> str:
    """The page with this section in the place of the one of its heading, or before the last section."""
    if not text:
        return page
    there = the_section(page, text.split("\n", 1)[0])
    if there:
        return page.replace(there, text, 1)
    before, last = page.rsplit("\n## ", 1)
    return f"{before}\n{text}\n\n## {last}"


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
