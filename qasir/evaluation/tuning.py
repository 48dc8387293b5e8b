"""Chooses a method's numbers on validation queries, by SumR: a hybrid's sides each alone first, then its own.

Never on the queries that are then reported: nothing here looks at those.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from qasir.errors import QueryError
from qasir.evaluation.evaluate import answerable, rank_queries, ranks_of
from qasir.evaluation.metrics import summarise
from qasir.evaluation.query import Query
from qasir.retrieval.methods.method import Method
from qasir.retrieval.searcher import Searcher

Ranks = TypeVar("Ranks", bound=Method)


def chosen(searcher: Searcher, queries: Sequence[Query], method: Ranks, *, keep: Container[str] = ()) -> Ranks:
    """The method with the numbers of the highest SumR over the queries whose video is there; of equally good ones the
    first.

    keep: fields that are not chosen. A method without choices stays as it is. Raises QueryError when no query can be
    scored.
    """
    sides = [chosen_alone(searcher.alone(i), queries, side, keep) for i, side in enumerate(method.sides())]
    return chosen_alone(searcher, queries, method.with_sides(sides), keep)


def chosen_alone(searcher: Searcher, queries: Sequence[Query], method: Ranks, keep: Container[str]) -> Ranks:
    """The method with its own numbers chosen."""
    found, _ = answerable(searcher, queries)
    searcher.checked(method)
    choices = method.choices(len(searcher.videos().video_ids))
    for name, values in choices.items():
        if name not in keep:
            method = _best(searcher, found, method, name, values)
    return method


def check_choices(method: Method, keep: Container[str] = ()) -> None:
    """Raises QueryError for a method of which nothing can be chosen. keep: fields that are not."""
    if any(name not in keep for one in (method, *method.sides()) for name in one.choices(1)):
        return
    fixed = ", ".join(dict.fromkeys(name for one in (method, *method.sides()) for name in one.numbers()))
    why = f"can choose none of its numbers ({fixed})" if fixed else "have nothing to choose, since it has no numbers"
    raise QueryError(f"{method.name}: validation queries {why}: leave out --validation-queries")


def sum_r(searcher: Searcher, queries: Sequence[Query], method: Method) -> float:
    """SumR over the queries whose video is there."""
    found, _ = answerable(searcher, queries)
    return summarise(rank_queries(searcher, found, method)[1])["SumR"]


def _best(searcher: Searcher, queries: Sequence[Query], method: Any, name: str, values: Sequence[Any]) -> Any:
    tried = [replace(method, **{name: value}) for value in values]
    embeddings = searcher.queries([query.text for query in queries])
    scored = method.score_each(tried, embeddings, searcher.rankers)
    sums = [summarise(ranks_of(searcher, queries, values))["SumR"] for values in scored]
    return tried[sums.index(max(sums))]
