"""Runs a study: crosses encoders and ways of ranking over one corpus, and writes what each costs and buys."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run, say

if TYPE_CHECKING:
    from pipelines.study import Step


def run_study(
    config: Annotated[Path, typer.Option(help="A study.yaml; docs/study.md has its keys.")],
    output: Annotated[
        Path, typer.Option(help="Folder for the indexes, results.parquet, ranks.parquet and index.html.")
    ],
    as_json: Json = False,
) -> None:
    """Run every setting of a study that has no result yet; run it again to go on, or after changing the config."""
    from jobs.progress import EncodingProgress
    from pipelines.study import run_study as study
    from qasir.files.whole import write_whole
    from qasir.study.config import load_study_config
    from qasir.study.page import render_study

    asked = load_study_config(config)
    since = time.monotonic()
    with EncodingProgress() as progress:
        results = study(asked, output, on_encoding=progress.show, on_step=_print)
    queries = asked.corpus.queries
    title = f"Study of {queries.parent.name}/{queries.name}"
    write_whole(output / "index.html", render_study(results, title=title, tuned=asked.validation is not None))
    n_failed = sum(not result.is_done for result in results)
    say(f"{len(results)} settings, {n_failed} of them could not be built")
    say(f"report: {output / 'index.html'}")
    if as_json:
        print_json(
            {
                "settings": len(results),
                "failed": n_failed,
                "results": str(output / "results.parquet"),
                "report": str(output / "index.html"),
                "seconds": time.monotonic() - since,
            }
        )
    if n_failed == len(results):
        raise typer.Exit(1)


def _print(step: "Step") -> None:
    row = step.result.row
    if step.result.is_done:
        what = f"SumR {row['SumR']:.1f} ({row['SumR_low']:.1f} to {row['SumR_high']:.1f})"
        what += ", as before" if step.was_there else f", {row['seconds']:.1f} s"
    else:
        what = f"cannot be built: {row['reason']}"
    say(f"{step.number}/{step.planned} {row['label']}: {what}")


app = job(run_study)

if __name__ == "__main__":
    run(app)
