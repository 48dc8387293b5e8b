"""Evaluates retrieval: ranks the videos of an index for every query of a file."""

import json
import os
from pathlib import Path
from typing import Annotated

import pyarrow.parquet
import typer

from jobs.console import Json, job, print_json, run
from qasir.annotations import read_queries
from qasir.errors import QueryError
from qasir.evaluate import Evaluation, evaluate, rankings_table
from qasir.metrics import DEFAULT_MV_EDGES, METRICS
from qasir.report.page import render_report
from qasir.scoring import DEFAULT_TEMPERATURE, Scoring
from qasir.search import open_index
from qasir.whole_file import write_whole


def evaluate_retrieval(
    index: Annotated[str, typer.Option(help="The index to search.")],
    queries: Annotated[Path, typer.Option(help="Query file.")],
    query_format: Annotated[
        str, typer.Option("--format", help="auto, jsonl, tvr, activitynet, charades, captions or moment-detr.")
    ] = "auto",
    aggregation: Annotated[str, typer.Option(help="attention, mean or max.")] = "attention",
    temperature: Annotated[
        float, typer.Option(help="Of the attention; towards 0 it becomes max pooling.")
    ] = DEFAULT_TEMPERATURE,
    missing: Annotated[str, typer.Option(help="Queries without a video in the index: skip them, or miss.")] = "skip",
    mv_edges: Annotated[str, typer.Option(help="Edges of the moment-to-video ratio bins.")] = ",".join(
        map(str, DEFAULT_MV_EDGES)
    ),
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json, rankings.parquet and index.html.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rank every video for every query; print the metrics, and write them with a report to --output."""
    scoring = Scoring(aggregation, temperature)  # type: ignore[arg-type]
    asked = read_queries(queries, query_format)
    searcher = open_index(index)
    result = evaluate(searcher, asked, scoring, missing=missing, mv_edges=_edges(mv_edges))  # type: ignore[arg-type]
    _print(result)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / "metrics.json", json_text(result))
        partial = output / "rankings.partial"
        pyarrow.parquet.write_table(rankings_table(result, searcher), partial)
        os.replace(partial, output / "rankings.parquet")
        page = render_report(result, searcher, title=f"Retrieval on {queries.name}")
        write_whole(output / "index.html", page)
        print(f"report: {output / 'index.html'}")
    if as_json:
        print_json(result.to_dict())


def json_text(result: Evaluation) -> str:
    return json.dumps(result.to_dict(), indent=2, default=str) + "\n"


def _edges(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise QueryError(f"M/V edges {text!r}: give numbers with commas between, e.g. 0,0.2,0.4,1") from None


def _print(result: Evaluation) -> None:
    skipped = sum(result.skipped.values())
    print(
        f"{len(result.rank)} queries, {result.n_videos} videos"
        + (f", {skipped} {result.missing}ed: {result.skipped}" if skipped else "")
    )
    print(f"{'metric':8}{'value':>9}   95 % interval")
    for name in METRICS:
        low, high = result.ci95[name]
        digits = 3 if name == "MRR" else 1
        note = (
            f"says nothing: only {result.n_videos} videos"
            if name in result.saturated
            else f"{low:.{digits}f} to {high:.{digits}f}"
        )
        print(f"{name:8}{result.metrics[name]:9.{digits}f}   {note}")


app = job(evaluate_retrieval)

if __name__ == "__main__":
    run(app)
