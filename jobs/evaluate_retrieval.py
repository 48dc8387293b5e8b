"""Evaluates retrieval: ranks the videos of an index, or of two together, for every query of a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run
from jobs.options import (
    AggregationOption,
    FinetunedOption,
    GateTemperature,
    Hybrid,
    Indexes,
    Recall,
    RecallK,
    Rerank,
    Temperatures,
    Weight,
)
from qasir.errors import QueryError
from qasir.evaluation.evaluate import Evaluation, VideoToText, evaluate, evaluate_video_to_text, rankings_table
from qasir.evaluation.metrics import DEFAULT_MV_EDGES, METRICS
from qasir.evaluation.moment_metrics import NAMES
from qasir.evaluation.query_files import FORMATS, Query, paragraphs, read_queries
from qasir.evaluation.report.page import render_report, sentence
from qasir.evaluation.tuning import chosen
from qasir.files.whole import write_parquet, write_whole
from qasir.retrieval.coarse_to_fine import CoarseToFine
from qasir.retrieval.hybrid import Cascade, Fusion, HybridSearcher
from qasir.retrieval.methods import method_of, open_searcher
from qasir.retrieval.searcher import IndexSearcher, Searcher
from qasir.retrieval.tuned import TunedVectors

DIRECTIONS = ("text-to-video", "video-to-text")


def evaluate_retrieval(
    index: Indexes,
    queries: Annotated[Path, typer.Option(help="Query file.")],
    query_format: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")] = "auto",
    aggregation: AggregationOption = None,
    temperature: Temperatures = None,
    gate_temperature: GateTemperature = None,
    finetuned: FinetunedOption = None,
    hybrid: Hybrid = None,
    weight: Weight = 0.5,
    top_k: Annotated[int, typer.Option(help="Cascade: how many videos the first index scores.")] = 50,
    recall: Recall = None,
    recall_k: RecallK = 50,
    rerank: Rerank = None,
    validation_queries: Annotated[
        Path | None,
        typer.Option(help="Choose temperatures, and a hybrid's weight or top-k, by SumR on these queries first."),
    ] = None,
    validation_index: Annotated[
        list[str] | None,
        typer.Option(help="The index of the validation queries' videos, once per --index.", show_default="--index"),
    ] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Score on Ray, for a corpus larger than one machine's memory.")
    ] = False,
    direction: Annotated[
        str, typer.Option(help="text-to-video, or video-to-text as trimmed benchmarks report it too.")
    ] = "text-to-video",
    as_paragraphs: Annotated[
        bool, typer.Option("--paragraphs", help="All sentences of a video as one query, as DiDeMo is scored.")
    ] = False,
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
    if direction not in DIRECTIONS:
        raise QueryError(f"direction {direction!r}: choose one of {', '.join(DIRECTIONS)}")
    asked = read_queries(queries, query_format)
    if as_paragraphs:
        asked = paragraphs(asked)
    searcher = open_searcher(index, hybrid, finetuned)
    method = method_of(
        searcher, aggregation=aggregation, temperatures=temperature, gate_temperature=gate_temperature, hybrid=hybrid,
        weight=weight, cascade_k=top_k, recall=recall, recall_k=recall_k, rerank=rerank,
    )  # fmt: skip
    if validation_queries is not None:
        tuning = open_searcher(validation_index or index, hybrid, finetuned)
        method = chosen(tuning, read_queries(validation_queries, query_format), method)
        print(f"chosen on {validation_queries}: {json.dumps(method.describe())}")
    elif validation_index:
        raise QueryError("--validation-index goes with --validation-queries")
    if distributed:
        _distribute(searcher, method)
    if direction == "video-to-text":
        _report_video_to_text(evaluate_video_to_text(searcher, asked, method), output, as_json)
        return
    options: dict[str, Any] = {"missing": missing, "mv_edges": _edges(mv_edges)}
    result = evaluate(searcher, asked, method, **options)
    compared = compare(searcher, asked, method, result, options, weight=weight, top_k=top_k)
    _print(result)
    _print_moments(result)
    if compared:
        _print_compared(compared)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / "metrics.json", json_text(facts(result, compared)))
        write_parquet(output / "rankings.parquet", rankings_table(result, searcher))
        page = render_report(result, searcher, title=f"Retrieval on {queries.name}", compared=compared)
        write_whole(output / "index.html", page)
        print(f"report: {output / 'index.html'}")
    if as_json:
        print_json(facts(result, compared))


def compare(
    searcher: Searcher[Any],
    queries: Sequence[Query],
    method: Any,
    result: Evaluation,
    options: dict[str, Any],
    *,
    weight: float,
    top_k: int,
) -> dict[str, Evaluation]:
    """For a hybrid: each model alone and both combinations, by name. Nothing for one index."""
    if not isinstance(searcher, HybridSearcher):
        return {}
    sides = {"large": method.large, "small": method.small}
    other = Cascade(top_k, **sides) if isinstance(method, Fusion) else Fusion(weight, **sides)
    pair = {type(method): result, type(other): evaluate(searcher, queries, other, **options)}
    alone = {
        "large": evaluate(searcher.large, queries, method.large, **options),
        "small": evaluate(searcher.small, queries, method.small, **options),
    }
    return {**alone, "fusion": pair[Fusion], "cascade": pair[Cascade]}


def _distribute(searcher: Searcher[Any], method: Any) -> None:
    if isinstance(method, CoarseToFine):
        raise QueryError("--distributed scores every video exactly; it does not go with --recall")
    from pipelines.score import DistributedScores

    sides = (searcher.large, searcher.small) if isinstance(searcher, HybridSearcher) else (searcher,)
    for side in sides:
        assert isinstance(side, IndexSearcher)
        if isinstance(side.vectors, TunedVectors) or side.index.spec.gates:
            raise QueryError(
                "--distributed scores the vectors as they are stored: for a fine-tuned checkpoint run "
                "jobs/apply_finetuned.py first (recipe eercf with its temporal encoder is scored on one machine)"
            )
        side.scorer = DistributedScores(side.snapshot)


def facts(result: Evaluation, compared: Mapping[str, Evaluation]) -> dict[str, Any]:
    """What `metrics.json` and --json hold."""
    found = result.to_dict()
    if compared:
        keys = ("metrics", "ci95", "gflops", "scoring", "spec")
        found["compared"] = {name: {key: each.to_dict()[key] for key in keys} for name, each in compared.items()}
    return found


def json_text(found: Mapping[str, Any]) -> str:
    return json.dumps(found, indent=2, default=str) + "\n"


def _report_video_to_text(result: VideoToText, output: Path | None, as_json: bool) -> None:
    print(f"{len(result.video_ids)} videos, {len(result.queries)} texts")
    print(f"ranked by {sentence(result.method)}")
    _print_metrics(result.metrics, result.ci95, {})
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / "metrics.json", json_text(result.to_dict()))
        write_parquet(output / "rankings.parquet", result.rankings())
    if as_json:
        print_json(result.to_dict())


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
    print(f"ranked by {sentence(result.method)}")
    _print_metrics(
        result.metrics,
        result.ci95,
        dict.fromkeys(result.saturated, f"says nothing: only {result.n_videos} videos"),
    )


def _print_metrics(
    metrics: Mapping[str, float], ci95: Mapping[str, tuple[float, float]], notes: Mapping[str, str]
) -> None:
    print(f"{'metric':8}{'value':>9}   95 % interval")
    for name in METRICS:
        low, high = ci95[name]
        digits = 3 if name == "MRR" else 1
        note = notes.get(name, f"{low:.{digits}f} to {high:.{digits}f}")
        print(f"{name:8}{metrics[name]:9.{digits}f}   {note}")


def _print_moments(result: Evaluation) -> None:
    if result.moments:
        print(f"{'moments from':14}" + "".join(f"{name:>13}" for name in NAMES))
    for granularity, row in result.moments.items():
        print(f"{granularity + 's':14}" + "".join(f"{row[name][0]:13.1f}" for name in NAMES))


def _print_compared(compared: Mapping[str, Evaluation]) -> None:
    print(f"{'':10}{'R@1':>7}{'SumR':>8}   {'95 %':14}{'GFLOPs a video':>15}{'a query':>9}")
    for name, each in compared.items():
        low, high = each.ci95["SumR"]
        interval = f"{low:.1f} to {high:.1f}"
        print(
            f"{name:10}{each.metrics['R@1']:7.1f}{each.metrics['SumR']:8.1f}   {interval:14}"
            f"{each.cost.encoding_per_video:15.4g}{each.cost.scoring_per_query:9.3g}"
        )


app = job(evaluate_retrieval)

if __name__ == "__main__":
    run(app)
