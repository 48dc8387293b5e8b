"""A query of a benchmark: a text, the videos that are right for it, and its moments."""

import hashlib
import json
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from qasir.errors import QueryError

_NAMED = 3


@dataclass(frozen=True)
class Query:
    """A text and the video it is about; moments are (start, end) in seconds, duration_s None where not given.

    other_video_ids: further videos that are right for it, if there are; moments and duration are of `video_id`.
    """

    query_id: str
    text: str
    video_id: str
    moments: tuple[tuple[float, float], ...] = ()
    duration_s: float | None = None
    other_video_ids: tuple[str, ...] = ()

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Every right video; the first has the moments."""
        return (self.video_id, *self.other_video_ids)

    def among(self, there: Container[str]) -> "Query | None":
        """The query as it is where only some videos are there; None where none of the right ones is. Its moments go
        with their video."""
        if not self.other_video_ids:
            return self if self.video_id in there else None
        kept = [video_id for video_id in self.video_ids if video_id in there]
        if not kept:
            return None
        first, *others = kept
        if first == self.video_id:
            return replace(self, other_video_ids=tuple(others))
        return Query(self.query_id, self.text, first, other_video_ids=tuple(others))

    def moment_ratio(self, duration_s: float | None = None) -> float:
        """M/V: seconds covered by the moments over the video's; NaN without a moment or a duration."""
        whole = self.duration_s or duration_s
        if not self.moments or not whole:
            return math.nan
        return min(1.0, _covered(self.moments) / whole)


def _covered(moments: tuple[tuple[float, float], ...]) -> float:
    total, until = 0.0, -math.inf
    for start, end in sorted(moments):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def apart(queries: Sequence[Query], video_ids: Sequence[str]) -> str:
    """The first videos of queries, and of others that they do not meet, for an error: a prefix shows."""
    asked = list(dict.fromkeys(query.video_id for query in queries))
    return f"they are about {_some(asked)}; it has {_some(video_ids)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" and so on" if len(names) > _NAMED else "")


def paragraphs(queries: Sequence[Query]) -> list[Query]:
    """The sentences of each video as one query, in their order, as trimmed benchmarks of several sentences a video are
    scored. Raises QueryError for a query that several videos are right for."""
    by_video: dict[str, list[Query]] = {}
    for query in queries:
        if query.other_video_ids:
            raise QueryError(f"query {query.query_id!r} has several right videos: it is in no video's paragraph")
        by_video.setdefault(query.video_id, []).append(query)
    return [
        Query(video_id, " ".join(query.text for query in some), video_id, duration_s=some[0].duration_s)
        for video_id, some in by_video.items()
    ]


def fingerprint(queries: Sequence[Query]) -> str:
    """The SHA-256 of queries: the same for the same ones in the same order."""
    told = [[query.query_id, query.text, query.video_id, query.moments, *query.other_video_ids] for query in queries]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
