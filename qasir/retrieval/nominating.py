"""Candidates of one query from the vector index, completed to whole videos: a ranker scores those exactly."""

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.errors import NoIndexError
from qasir.retrieval import vector_index
from qasir.retrieval.methods.method import Method
from qasir.retrieval.vector_source import SomeVectors, VectorSource

_FEW_VIDEOS = 1000
"""A filter that leaves no more is answered by scoring them all."""


@dataclass(frozen=True)
class Candidates:
    """Videos that may answer a query, and whether those are all that may."""

    vectors: SomeVectors
    complete: bool


def is_nominated(vectors: VectorSource, method: Method, exact: bool | None) -> bool:
    """Whether candidates come from the vector index: always (exact False), never (True), or where that is possible
    (None).

    Raises NoIndexError when they should and cannot.
    """
    usable = method.nominates()
    if exact or (exact is None and not usable):
        return False
    indexed = vectors.is_indexed()
    if exact is False and not (usable and indexed):
        why = "does not exist: jobs/build_vector_index.py makes it"
        if not vectors.is_stored:
            why = "is over other vectors than a fine-tuned checkpoint makes: apply it by jobs/apply_finetuned.py first"
        elif indexed:
            why = "cannot answer this method"
        raise NoIndexError(f"the vector index of {vectors.snapshot.uri} {why}")
    return indexed


def candidates(
    vectors: VectorSource, query: NDArray[np.float32], top_k: int, method: Method, allowed: Set[str] | None
) -> Candidates | None:
    """Enough for `top_k` hits of a query (D,), however few a filter leaves (`allowed` ids); None when there are
    none."""
    chosen, complete = _nominated(vectors, query, top_k, method.recalls(), allowed)
    images = vectors.load("super-image", chosen)
    return Candidates(SomeVectors(images, vectors), complete) if images.video_ids else None


def _nominated(
    vectors: VectorSource, query: NDArray[np.float32], top_k: int, most: int | None, allowed: Set[str] | None
) -> tuple[list[str], bool]:
    """(video ids, whether those are all that may be)."""
    rows = vectors.snapshot.rows()
    probing = vector_index.Probing().for_top(max(top_k, most or 0))
    if allowed is not None and len(allowed) > _FEW_VIDEOS:
        probing = probing.for_share(len(allowed) / len(rows.video_ids))
    while True:
        # Few videos, or so many candidates that they cost as much: then no need to be nominated.
        if allowed is not None and (len(allowed) <= _FEW_VIDEOS or 4 * probing.candidates > len(rows.row)):
            return sorted(allowed), True
        found = vector_index.nearest(vectors.snapshot, query, probing)
        if allowed is not None:
            found = [video_id for video_id in found if video_id in allowed]
        if len(found) >= probing.videos or probing.candidates >= len(rows.row):
            return found[: most or probing.videos], False
        probing = probing.wider()
