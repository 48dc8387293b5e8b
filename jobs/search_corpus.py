"""Searches an index, or two together, for a moment by text or by picture: shows videos, or moments of all videos."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.command_line import Given, Json, job
from jobs.console import print_json, run, say
from jobs.evaluation_output import print_left_out
from jobs.options import MethodNumbers, Ranking, given_numbers
from qasir.errors import QueryError
from qasir.retrieval.asking import Like, Part, Picture
from qasir.retrieval.hits import Hits, MomentHit, MomentHits
from qasir.retrieval.methods.asked import asked, check_indexes
from qasir.retrieval.opening import open_searcher

_VIDEOS, _MOMENTS = 5, 20
"""How many are shown unless asked otherwise."""


def search(
    ranking: Ranking,
    numbers: MethodNumbers,
    given: Given,
    query: Annotated[
        str | None, typer.Argument(help="What the moment shows; may be left out beside a picture.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="A picture of what is looked for.")] = None,
    like: Annotated[
        str | None, typer.Option(metavar="VIDEO@SECONDS", help="A place in a video of the index, to find more like it.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="How many to show.", show_default="5 videos, or 20 moments")] = None,
    moments: Annotated[
        bool, typer.Option("--moments", help="Rank moments, several a video, of which no two overlap.")
    ] = False,
    per_video: Annotated[int, typer.Option(help="With --moments, how many of one video at most.")] = 3,
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
    as_json: Json = False,
) -> None:
    """Show the videos that fit a query best, each with its score and its best moment; or the moments that do."""
    if not moments:
        given.refuse(["per_video"], "videos are ranked, each with one moment, without --moments")
    check_indexes(len(ranking.index), ranking.hybrid)
    if exact is False and ranking.hybrid:
        raise QueryError(f"--indexed: --hybrid {ranking.hybrid} scores every video")
    what: list[Part] = [query] if query is not None else []
    what += [Picture(image)] if image is not None else []
    what += [Like.parse(like)] if like is not None else []
    if not what:
        raise QueryError("nothing to search for: give a text, --image FILE or --like VIDEO@SECONDS")
    if exact is False and len(what) > 1:
        raise QueryError("--indexed: a text and a picture together score every video")
    searcher = open_searcher(ranking.index, ranking.finetuned)
    defaults = [side.default for side in searcher.sides]
    method = asked(defaults, ranking.aggregation, ranking.hybrid, given_numbers(numbers))
    if top_k is None:
        top_k = _MOMENTS if moments else _VIDEOS
    hits: Hits | MomentHits
    if moments:
        hits = searcher.search_moments(what, top_k, method, per_video=per_video, where=where, exact=exact)
    else:
        hits = searcher.search(what, top_k, method, where=where, exact=exact)
    if not hits:
        say("no video has vectors that can be used" if where is None else f"no video fits the filter {where!r}")
    width = max((len(hit.video_id) for hit in hits), default=0)
    for place, hit in enumerate(hits, start=1):
        moment = f"moment {_clock(hit.start_s)} to {_clock(hit.end_s)}"
        video = f"  video {hit.video_score:.3f}" if isinstance(hit, MomentHit) else ""
        say(f"{place:3}  {hit.video_id:{width}}  score {hit.score:.3f}  {moment}{video}")
    if not hits.exact:
        say("from the vector index, which may miss a video; --exact scores all")
    print_left_out(len(searcher.left_out))
    if as_json:
        facts = {
            "query": query, "image": image, "like": like, "where": where, "by": "moment" if moments else "video",
            "exact": hits.exact, "scoring": method.describe(), "left_out": len(searcher.left_out),
        }  # fmt: skip
        print_json({**facts, "hits": [asdict(hit) for hit in hits]})


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:d}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes:d}:{rest:04.1f}"


app = job(search)

if __name__ == "__main__":
    run(app)
