"""How well moments are found: R@K at an IoU, over (video, moment) pairs, as in video corpus moment retrieval.

A query counts as found within K when one of its first K hits is the right video with a moment whose intersection over
union with a true moment reaches the threshold. A hit has one moment, so K counts videos.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qasir.evaluation.metrics import bootstrap_means
from qasir.evaluation.query import Query
from qasir.retrieval.moments import overlap
from qasir.retrieval.searcher import Searcher

AT = (1, 5)
IOUS = (0.3, 0.5, 0.7)
NAMES = tuple(f"R@{k} IoU {iou:g}" for k in AT for iou in IOUS)


def moment_recalls(
    searcher: Searcher, queries: Sequence[Query], order: NDArray[np.int64]
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """{granularity: {name: (percentage, low, high)}} of every granularity stored, over the queries that have moments.

    order (Q, >= 5 or V): each query's videos, best first. Empty when no query has a moment.
    """
    asked = [q for q, query in enumerate(queries) if query.moments]
    if not asked:
        return {}
    texts = [queries[q].text for q in asked]
    # Only the right video can count, so only its moment is looked up.
    within = {}
    for i, q in enumerate(asked):
        first = [searcher.videos().video_ids[v] for v in order[q, : max(AT)].tolist()]
        if queries[q].video_id in first:
            within[i] = first.index(queries[q].video_id)
    spec = searcher.side.index.spec
    wanted = [(i, queries[asked[i]].video_id) for i in within]
    groups = [queries[q].video_id for q in asked]
    found = {}
    for granularity in ("super-image", "cell") if spec.cells and spec.grid > 1 else ("super-image",):
        spans = searcher.moments(texts, wanted, granularity)
        right = np.zeros((len(asked), len(NAMES)))
        for (i, place), span in zip(within.items(), spans.tolist(), strict=True):
            best = max(overlap((span[0], span[1]), true) for true in queries[asked[i]].moments)
            right[i] = [100.0 * (place < k and best >= iou) for k in AT for iou in IOUS]
        table = bootstrap_means(right, groups)
        found[granularity] = {name: (row[0], row[1], row[2]) for name, row in zip(NAMES, table.tolist(), strict=True)}
    return found
