"""Answers many questions at once: those that are asked alike are ranked together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qasir.app.cutoff import Noise, noise_of
from qasir.app.question import By
from qasir.app.units import Units, units_of
from qasir.app.views import Searching, View
from qasir.errors import QasirError
from qasir.retrieval.asking import Part
from qasir.retrieval.hits import Hits, MomentHits
from qasir.retrieval.methods.method import Method
from qasir.retrieval.searcher import Selection


@dataclass(frozen=True)
class Manner:
    """How a question is asked, but for what it asks. Arguments as of `Searcher.search` and `search_moments`; a filter
    is worked out before, since others wait for what is answered here."""

    view: View
    searching: Searching
    method: Method
    by: By
    top_k: int
    per_video: int
    exact: bool | None
    where: Selection | None


@dataclass(frozen=True)
class Found:
    """Hits of a question, and what they were found in and by. noise: of what hits score, where something can be said;
    unit_noise: of the cosines of the units that moments are made of."""

    view: View
    hits: Hits | MomentHits
    method: Method | None = None
    noise: Noise | None = None
    unit_noise: Noise | None = None

    @property
    def granularity(self) -> str:
        """Of the units that moments are made of."""
        return "super-image" if self.view.searching is None else self.view.searching.sample.granularity

    def units(self) -> dict[str, Units]:
        """{video_id of a hit: its units}."""
        searching, vector = self.view.searching, self.hits.vector
        if searching is None or vector is None or not self.hits:
            return {}
        ids = [hit.video_id for hit in self.hits]
        return dict(units_of(searching.searcher.side.vectors, searching.sample.granularity, ids, vector))


def answers(asked: Sequence[tuple[Manner, tuple[Part, ...]]]) -> list[Found | QasirError]:
    """What is found for each (how, what), or why it cannot be asked."""
    found: dict[int, Found | QasirError] = {}
    alike: dict[Manner, list[int]] = {}
    for i, (manner, _) in enumerate(asked):
        alike.setdefault(manner, []).append(i)
    for manner, numbers in alike.items():
        found |= zip(numbers, _answers(manner, [asked[i][1] for i in numbers]), strict=True)
    return [found[i] for i in range(len(asked))]


def _answers(manner: Manner, asked: Sequence[tuple[Part, ...]]) -> list[Found | QasirError]:
    """Together; one by one where that is refused, so that each hears of its own fault only."""
    try:
        return list(_found(manner, asked))
    except QasirError as error:
        if len(asked) == 1:
            return [error]
        return [answer for one in asked for answer in _answers(manner, [one])]


def _found(manner: Manner, asked: Sequence[tuple[Part, ...]]) -> Iterator[Found]:
    searcher, sample, method = manner.searching.searcher, manner.searching.sample, manner.method
    if manner.by == "moment":
        many: Sequence[Hits | MomentHits] = searcher.search_many_moments(
            asked, manner.top_k, method, per_video=manner.per_video, where=manner.where, exact=manner.exact
        )
    else:
        many = searcher.search_many(asked, manner.top_k, method, where=manner.where, exact=manner.exact)
    unit_noise = _each(many, sample.of_units)
    noise = unit_noise if manner.by == "moment" else _video_noise(manner, asked, many)
    for hits, of_hits, of_units in zip(many, noise, unit_noise, strict=True):
        yield Found(manner.view, hits, method, of_hits, of_units)


def _video_noise(
    manner: Manner, asked: Sequence[tuple[Part, ...]], many: Sequence[Hits | MomentHits]
) -> list[Noise | None]:
    """Of what videos score for each question."""
    searcher, method = manner.searching.searcher, manner.method
    if method.is_staged():
        return [None] * len(asked)
    standardised = [i for i, parts in enumerate(asked) if len(parts) > 1 or len(searcher.sides) > 1]
    noise: list[Noise | None] = [None] * len(asked)
    if len(standardised) < len(asked):
        noise = _each(many, lambda vectors: manner.searching.sample.of_images(vectors, method))
    if standardised:
        scores, _ = searcher.score_asked([asked[i] for i in standardised], method, where=manner.where)
        for i, row in zip(standardised, scores, strict=True):
            noise[i] = noise_of(row, "video")
    return noise


def _each(
    many: Sequence[Hits | MomentHits], noise: Callable[[NDArray[np.float32]], list[Noise | None]]
) -> list[Noise | None]:
    """For the hits of each question, from the vector that they were found by, where there is one."""
    there = [i for i, hits in enumerate(many) if hits.vector is not None]
    found: dict[int, Noise | None] = {}
    if there:
        vectors = np.stack([hits.vector for hits in many if hits.vector is not None])
        found = dict(zip(there, noise(vectors), strict=True))
    return [found.get(i) for i in range(len(many))]
