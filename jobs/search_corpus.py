"""Searches an index, or two together, for a moment by text or by picture: shows videos, or moments of all videos. Or
asks a running search page to."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command_line import Given, Json, job
from jobs.console import print_json, run
from jobs.hits_output import print_hits, print_left_out
from jobs.options import MethodNumbers, RankingAnywhere, given_as, given_numbers
from jobs.query_features import check_query_features, given_query
from qasir.errors import QueryError
from qasir.options import Doc, Flag, Shown
from qasir.retrieval.methods.asked import asked, check_indexes
from qasir.retrieval.query_features import QueryFeatureOptions

if TYPE_CHECKING:
    from jobs.asking_server import ServedHit
    from qasir.retrieval.asking import Part
    from qasir.retrieval.hits import Hits, MomentHits

_VIDEOS, _MOMENTS = 5, 20
"""How many are shown unless asked otherwise."""
_OF_AN_INDEX = ("index", "finetuned", "hybrid")
"""What a server decides for itself."""


@dataclass(frozen=True)
class Looking:
    """What is looked for besides a text, among which videos, and how it is shown."""

    image: Annotated[Path | None, Doc("A picture of what is looked for.")] = None
    like: Annotated[str | None, Doc("A place in a video of the index, VIDEO@SECONDS, to find more like it.")] = None
    query_id: Annotated[str | None, Doc("A query of --query-features, by its id.")] = None
    top_k: Annotated[int | None, Doc("How many to show."), Shown("5 videos, or 20 moments")] = None
    moments: Annotated[bool, Doc("Rank moments, several a video, of which no two overlap.")] = False
    per_video: Annotated[int, Doc("With --moments, how many of one video at most.")] = 3
    where: Annotated[str | None, Doc('SQL over the columns of `videos`, such as "duration_s > 60".')] = None
    exact: Annotated[
        bool | None,
        Doc("Score every video, or only candidates from the vector index."),
        Flag("--exact/--indexed"),
        Shown("indexed where there is a vector index"),
    ] = None

    @property
    def most(self) -> int:
        """How many are shown."""
        return self.top_k if self.top_k is not None else _MOMENTS if self.moments else _VIDEOS

    @property
    def by(self) -> str:
        return "moment" if self.moments else "video"


@dataclass(frozen=True)
class Found:
    """What a search gave, here or at a server. facts: what --json says besides what was asked for."""

    hits: "Hits | MomentHits | list[ServedHit]"
    exact: bool
    left_out: int
    facts: dict[str, Any]


def search(
    *,
    ranking: RankingAnywhere,
    numbers: MethodNumbers,
    given: Given,
    query: Annotated[
        str | None, typer.Argument(help="What the moment shows; may be left out beside a picture.")
    ] = None,
    looking: Looking,
    features: QueryFeatureOptions,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Ask the search page (jobs/serve_search.py) that runs there; without --index."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="What the server asks for.", show_default="that of the environment variable QASIR_TOKEN"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the videos that fit a query best, each with its score and its best moment; or the moments that do."""
    if not looking.moments:
        given.refuse(["per_video"], "videos are ranked, each with one moment, without --moments")
    if query is None and looking.image is None and looking.like is None and looking.query_id is None:
        raise QueryError("nothing to search for: give a text, --image FILE, --like VIDEO@SECONDS or --query-id ID")
    check_query_features(features, given, len(ranking.index))
    if (looking.query_id is None) != (features.query_features is None):
        raise QueryError("--query-id and --query-features go together: which query, and where its features are")
    if server is not None:
        given.refuse(["query_features"], "--server: it is asked by text, picture or place")
        given.refuse(_OF_AN_INDEX, "--server: it has its own indexes, and searches them as it was started")
        found = _asked_of(server, token, query, looking, ranking.aggregation, numbers)
    else:
        given.refuse(["token"], "no --server asks for it")
        if not ranking.index:
            raise typer.BadParameter("give --index or --server")
        found = _searched(ranking, numbers, query, looking, features)
    print_hits(found.hits, looking.where, exact=found.exact)
    print_left_out(found.left_out)
    if as_json:
        asked_for = {
            "query": query, "image": looking.image, "like": looking.like, "query_id": looking.query_id,
            "where": looking.where, "by": looking.by,
        }  # fmt: skip
        print_json({**asked_for, **found.facts})


def _searched(
    ranking: RankingAnywhere, numbers: MethodNumbers, query: str | None, looking: Looking, features: QueryFeatureOptions
) -> Found:
    """In an index, or two."""
    check_indexes(len(ranking.index), ranking.hybrid)
    if looking.exact is False and ranking.hybrid:
        raise QueryError(f"--indexed: --hybrid {ranking.hybrid} scores every video")
    from qasir.retrieval.opening import open_searcher

    what = _parts(query, looking)
    if looking.exact is False and len(what) + (looking.query_id is not None) > 1:
        raise QueryError("--indexed: several things together score every video")
    searcher = open_searcher(ranking.index, ranking.finetuned)
    if looking.query_id is not None:
        what.append(given_query(features, looking.query_id, searcher))
    defaults = [side.default for side in searcher.sides]
    method = asked(defaults, ranking.aggregation, ranking.hybrid, given_numbers(numbers))
    options: dict[str, Any] = {"where": looking.where, "exact": looking.exact}
    hits: Hits | MomentHits
    if looking.moments:
        hits = searcher.search_moments(what, looking.most, method, per_video=looking.per_video, **options)
    else:
        hits = searcher.search(what, looking.most, method, **options)
    left_out = len(searcher.left_out)
    facts = {"exact": hits.exact, "scoring": method.describe(), "left_out": left_out}
    return Found(hits, hits.exact, left_out, {**facts, "hits": [asdict(hit) for hit in hits]})


def _parts(query: str | None, looking: Looking) -> "list[Part]":
    from qasir.retrieval.asking import Like, Picture

    parts: list[Part] = [query] if query is not None else []
    parts += [Picture(looking.image)] if looking.image is not None else []
    return parts + ([Like.parse(looking.like)] if looking.like is not None else [])


def _asked_of(
    url: str, token: str | None, query: str | None, looking: Looking, aggregation: str | None, numbers: MethodNumbers
) -> Found:
    """Of a server, by its API."""
    from jobs.asking_server import Server

    server = Server.at(url, token)
    asking = {
        "q": query, "like": looking.like, "top_k": looking.most, "by": looking.by, "where": looking.where,
        "per_video": looking.per_video if looking.moments else None,
        "exact": None if looking.exact is None else str(looking.exact).lower(), "aggregation": aggregation,
    }  # fmt: skip
    given = [(name, str(value)) for name, value in asking.items() if value is not None]
    answer = server.search([*given, *given_as(numbers)], looking.image)
    left_out = answer.facts.get("left_out")
    said = {name: value for name, value in answer.facts.items() if name != "query"}  # what was asked is told as given
    facts = {**said, "server": server.url, "exact": answer.exact, "hits": [hit.facts for hit in answer.hits]}
    return Found(answer.hits, answer.exact, left_out if isinstance(left_out, int) else 0, facts)


app = job(search)

if __name__ == "__main__":
    run(app)
