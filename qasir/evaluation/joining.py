"""Moments for queries of lists that have none, from the release of their benchmark: joined by video and text."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from qasir.errors import QueryError
from qasir.evaluation.query import Query

log = logging.getLogger(__name__)

_NAMED = 3


def with_moments(queries: Sequence[Query], release: Sequence[Query], where: str) -> list[Query]:
    """The queries with the moments and durations that a release has for their video and text, but for white space; all
    of them where it says a text of a video several times. A query that it has not stays as it is; how many there are is
    logged. where: what the release is called.

    Raises QueryError that names the first on both sides where none meet.
    """
    found: dict[tuple[str, str], list[Query]] = {}
    for query in release:
        found.setdefault(_key(query), []).append(query)
    joined = [_joined(query, found.get(_key(query), [])) for query in queries]
    lacking = [query for query in queries if _key(query) not in found]
    if queries and len(lacking) == len(queries):
        first, other = (f"{one.text!r} of video {one.video_id!r}" for one in (lacking[0], release[0]))
        raise QueryError(
            f"{where} has none of the {len(queries):,} queries by video and text: {first}, where it has {other}"
        )
    if lacking:
        named = ", ".join(query.query_id for query in lacking[:_NAMED])
        log.warning(
            "%s has no moments for %d of %d queries, %s first: they count for ranks, not for moments",
            where, len(lacking), len(queries), named,
        )  # fmt: skip
    return joined


def _joined(query: Query, same: Sequence[Query]) -> Query:
    if not same:
        return query
    moments = tuple(dict.fromkeys(moment for one in same for moment in one.moments))
    return replace(query, moments=moments, duration_s=query.duration_s or same[0].duration_s)


def _key(query: Query) -> tuple[str, str]:
    return query.video_id, " ".join(query.text.split())
