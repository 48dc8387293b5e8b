"""Where in a video a query's moment is: the contiguous span around the attention peak, at the finest granularity
stored.

Units are super images, or cells (one sampled frame each). With c_i the similarity of unit i, the span holds the units
around the peak whose c_i lies above the point `share` of the way from the video's mean similarity up to the peak's.
That is a bound on attention relative to the peak's which does not depend on how far a model's similarities spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.index.filters import in_chunks
from qasir.index.spec import EncoderSpec
from qasir.retrieval.vector_source import VectorSource


@dataclass(frozen=True)
class MomentRule:
    """share: how far from the mean similarity (0) to the peak's (1) a unit must reach to belong to the moment.

    0.7 was best on the demo's validation set at N = 2 and 3, by cells and by super images; 0.5 to 0.8 differ little.
    Adding a super image's similarity to those of its cells made moments worse.
    """

    share: float = 0.7

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise QueryError(f"moment share {self.share:g}: choose a number from 0 (longest) to 1 (the peak alone)")


def finest(spec: EncoderSpec) -> str:
    """The granularity that points most exactly: cells, unless there are none or a super image is one frame anyway."""
    return "cell" if spec.cells and spec.grid > 1 else "super-image"


def span(similarity: NDArray[np.float32], share: float) -> tuple[int, int]:
    """(first, last) unit of the moment, both included, from the similarities (U,) of a video's units."""
    peak = int(similarity.argmax())
    mean = min(similarity.mean(), similarity[peak])  # above the peak is where rounding puts it
    below = np.flatnonzero(similarity < min(mean + share * (similarity[peak] - mean), similarity[peak]))
    at = int(np.searchsorted(below, peak))
    first = int(below[at - 1]) + 1 if at > 0 else 0
    last = int(below[at]) - 1 if at < len(below) else len(similarity) - 1
    return first, last


def moments(
    vectors: VectorSource,
    queries: NDArray[np.float32],
    wanted: Sequence[tuple[int, str]],
    *,
    granularity: str | None = None,
    rule: MomentRule | None = None,
) -> NDArray[np.float64]:
    """(n, 2) start and end in seconds for every wanted (row of queries, video_id).

    Reads those videos' vectors only, some videos at a time.
    """
    rule = rule or MomentRule()
    granularity = granularity or finest(vectors.snapshot.spec)
    by_video: dict[str, list[int]] = {}
    for i, (_, video_id) in enumerate(wanted):
        by_video.setdefault(video_id, []).append(i)
    found = np.zeros((len(wanted), 2))
    for ids in in_chunks(sorted(by_video)):
        loaded = vectors.load(granularity, ids).covering(ids)
        for video_id in ids:
            which, rows = by_video[video_id], loaded.rows(video_id)
            similarity = queries[[wanted[i][0] for i in which]] @ loaded.features.vectors[rows].T
            start, end = loaded.start_s[rows], loaded.end_s[rows]
            for i, row in zip(which, similarity, strict=True):
                first, last = span(row, rule.share)
                found[i] = start[first], end[last]
    return found


def overlaps(spans: NDArray[np.float64], span: tuple[float, float]) -> NDArray[np.float64]:
    """(n,) intersections over union of spans of time (n, 2), start and end, with one."""
    both = np.minimum(spans[:, 1], span[1]) - np.maximum(spans[:, 0], span[0])
    either = np.maximum(spans[:, 1], span[1]) - np.minimum(spans[:, 0], span[0])
    return np.divide(both, either, out=np.zeros(len(spans)), where=(both > 0) & (either > 0))


def overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two spans of time."""
    both = min(a[1], b[1]) - max(a[0], b[0])
    either = max(a[1], b[1]) - min(a[0], b[0])
    return max(0.0, both) / either if either > 0 else 0.0
