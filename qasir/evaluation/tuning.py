"""Chooses temperatures, a fusion's weight and a cascade's depth on validation queries, by SumR.

Never on the queries that are then reported: nothing here looks at those.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qasir.errors import QueryError
from qasir.evaluation.evaluate import answerable, rank_queries, ranks_of
from qasir.evaluation.metrics import summarise
from qasir.evaluation.query_files import Query
from qasir.retrieval.hybrid import Cascade, Fusion, HybridSearcher
from qasir.retrieval.scoring import Scoring
from qasir.retrieval.searcher import IndexSearcher, Searcher

TEMPERATURES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
WEIGHTS = tuple(round(float(w), 2) for w in np.arange(0.05, 1.0, 0.05))
DEPTHS = (5, 10, 20, 50, 100, 200)


def sum_r(searcher: Searcher[Any], queries: Sequence[Query], method: Any) -> float:
    """SumR over the queries whose video is there."""
    found, _ = answerable(searcher, queries)
    return summarise(rank_queries(searcher, found, method)[1])["SumR"]


def best_temperature(searcher: IndexSearcher, queries: Sequence[Query], scoring: Scoring) -> Scoring:
    """The same scoring at the temperature with the highest SumR; unchanged where temperature has no effect."""
    if scoring.aggregation in ("mean", "max"):
        return scoring
    is_gate = scoring.aggregation == "tib"
    tried = [replace(scoring, gate_temperature=t) if is_gate else replace(scoring, temperature=t) for t in TEMPERATURES]
    return max(tried, key=lambda one: sum_r(searcher, queries, one))


def best_weight(searcher: HybridSearcher, queries: Sequence[Query], fusion: Fusion) -> Fusion:
    """The fusion with the weight of the highest SumR."""
    found, _ = answerable(searcher, queries)
    large, small = searcher.sides([query.text for query in found], fusion)
    return max(
        (replace(fusion, weight=w) for w in WEIGHTS),
        key=lambda one: summarise(ranks_of(searcher, found, one.weighted(large, small)))["SumR"],
    )


def best_depth(searcher: HybridSearcher, queries: Sequence[Query], cascade: Cascade) -> Cascade:
    """The cascade with the depth of the highest SumR; of equal ones the shallowest, which costs least."""
    depths = [k for k in DEPTHS if k < len(searcher.video_ids)] or [len(searcher.video_ids)]
    return max((replace(cascade, top_k=k) for k in depths), key=lambda one: sum_r(searcher, queries, one))


def chosen(searcher: Searcher[Any], queries: Sequence[Query], method: Any, *, keep: Container[str] = ()) -> Any:
    """The method with its temperature, and a hybrid's weight or top_k, chosen on validation queries, but for those to keep."""
    if isinstance(searcher, HybridSearcher):
        if "temperature" not in keep:
            large = best_temperature(searcher.large, queries, method.large)
            method = replace(method, large=large, small=best_temperature(searcher.small, queries, method.small))
        if isinstance(method, Fusion):
            return method if "weight" in keep else best_weight(searcher, queries, method)
        return method if "top_k" in keep else best_depth(searcher, queries, method)
    if not isinstance(method, Scoring):
        raise QueryError("validation queries choose temperatures, weights and cascade depths, not recall-k")
    assert isinstance(searcher, IndexSearcher)
    return method if "temperature" in keep else best_temperature(searcher, queries, method)
