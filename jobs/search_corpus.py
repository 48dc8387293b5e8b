"""Searches an index, or two together, for a moment by text."""

from dataclasses import asdict
from typing import Annotated

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
from qasir.retrieval.methods import method_of, open_searcher
from qasir.retrieval.searcher import IndexSearcher


def search(
    query: Annotated[str, typer.Argument(help="What the moment shows.")],
    index: Indexes,
    top_k: Annotated[int, typer.Option(help="How many videos to show.")] = 5,
    where: Annotated[
        str | None, typer.Option(help='SQL over the columns of `videos`, such as "duration_s > 60".')
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--indexed",
            help="Score every video, or only candidates from the vector index.",
            show_default="indexed where there is a vector index",
        ),
    ] = None,
    aggregation: AggregationOption = None,
    temperature: Temperatures = None,
    gate_temperature: GateTemperature = None,
    finetuned: FinetunedOption = None,
    hybrid: Hybrid = None,
    weight: Weight = 0.5,
    cascade_k: Annotated[int, typer.Option(help="Cascade: how many videos the first index scores.")] = 50,
    recall: Recall = None,
    recall_k: RecallK = 50,
    rerank: Rerank = None,
    as_json: Json = False,
) -> None:
    """Show the videos that fit a query best, each with its score and its best moment."""
    searcher = open_searcher(index, hybrid, finetuned)
    method = method_of(
        searcher, aggregation=aggregation, temperatures=temperature, gate_temperature=gate_temperature, hybrid=hybrid,
        weight=weight, cascade_k=cascade_k, recall=recall, recall_k=recall_k, rerank=rerank,
    )  # fmt: skip
    options = {"exact": exact} if isinstance(searcher, IndexSearcher) else {}
    hits = searcher.search(query, top_k, method, where=where, **options)
    if not hits:
        print(f"no video fits the filter {where!r}")
    width = max((len(hit.video_id) for hit in hits), default=0)
    for place, hit in enumerate(hits, start=1):
        print(
            f"{place:3}  {hit.video_id:{width}}  score {hit.score:.3f}  moment {_clock(hit.start_s)} to {_clock(hit.end_s)}"
        )
    if not hits.exact:
        print("from the vector index, which may miss a video; --exact scores all")
    if as_json:
        facts = {"query": query, "exact": hits.exact, "scoring": method.describe(), "where": where}
        print_json({**facts, "hits": [asdict(hit) for hit in hits]})


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:d}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes:d}:{rest:04.1f}"


app = job(search)

if __name__ == "__main__":
    run(app)
