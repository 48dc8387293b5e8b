"""A query of a benchmark: a text, the video it is about, and its moments there."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """A text and the one video it is about; moments are (start, end) in seconds, duration_s None where not given."""

    query_id: str
    text: str
    video_id: str
    moments: tuple[tuple[float, float], ...] = ()
    duration_s: float | None = None

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


def paragraphs(queries: Sequence[Query]) -> list[Query]:
    """The sentences of each video as one query, in their order, as trimmed benchmarks of several sentences a video are
    scored."""
    by_video: dict[str, list[Query]] = {}
    for query in queries:
        by_video.setdefault(query.video_id, []).append(query)
    return [
        Query(video_id, " ".join(query.text for query in some), video_id, duration_s=some[0].duration_s)
        for video_id, some in by_video.items()
    ]


def fingerprint(queries: Sequence[Query]) -> str:
    """The SHA-256 of queries: the same for the same ones in the same order."""
    told = [[query.query_id, query.text, query.video_id, query.moments] for query in queries]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
