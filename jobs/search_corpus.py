"""Searches an index for a moment by text."""

from dataclasses import asdict
from typing import Annotated

import typer

from jobs.console import Json, job, print_json, run
from qasir.scoring import DEFAULT_TEMPERATURE, Scoring
from qasir.search import open_index


def search(
    query: Annotated[str, typer.Argument(help="What the moment shows.")],
    index: Annotated[str, typer.Option(help="The index to search.")],
    top_k: Annotated[int, typer.Option(help="How many videos to show.")] = 5,
    aggregation: Annotated[str, typer.Option(help="attention, mean or max.")] = "attention",
    temperature: Annotated[float, typer.Option(help="Of the attention.")] = DEFAULT_TEMPERATURE,
    as_json: Json = False,
) -> None:
    """Show the videos that fit a query best, each with its score and its best moment."""
    scoring = Scoring(aggregation, temperature)  # type: ignore[arg-type]
    hits = open_index(index).search(query, top_k, scoring)
    width = max(len(hit.video_id) for hit in hits)
    for place, hit in enumerate(hits, start=1):
        print(
            f"{place:3}  {hit.video_id:{width}}  score {hit.score:.3f}  moment {_clock(hit.start_s)} to {_clock(hit.end_s)}"
        )
    if as_json:
        print_json({"query": query, "hits": [asdict(hit) for hit in hits]})


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:d}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes:d}:{rest:04.1f}"


app = job(search)

if __name__ == "__main__":
    run(app)
