"""What searching, evaluating, tuning, studies and reports ask of a way of ranking. None of them asks which class it
is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from qasir.errors import SpecError

if TYPE_CHECKING:
    from qasir.retrieval.ranker import Ranker

_LEAST_TEMPERATURE = 1e-6

Queries = Sequence[NDArray[np.float32]]
"""(Q, D) L2-normalised query embeddings, one array an index that the method ranks with."""


class Stored(Protocol):
    """What an index stores, as far as a method may mind: an encoder spec, or the options that will become one."""

    @property
    def grid(self) -> int: ...

    @property
    def cells(self) -> bool: ...


class Method(ABC):
    """A way of ranking: a frozen dataclass whose fields are its numbers, with the name it is asked for by.

    name: on command lines and in config files, where "name:value" gives the field `argument`. kind: the kind of setting
    it makes in a study. n_indexes: over how many indexes of one corpus it ranks.
    """

    name: ClassVar[str]
    argument: ClassVar[str | None] = None
    kind: ClassVar[str] = "zero-shot"
    n_indexes: ClassVar[int] = 1

    @abstractmethod
    def score(
        self, queries: Queries, rankers: Sequence["Ranker"], among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """(Q, V) scores of every query against every video of the rankers, which all know the same V.

        among (V,): the videos that count, when not all do; a first stage recalls only those. Scores of others mean
        nothing.
        """

    @abstractmethod
    def sentence(self) -> str:
        """How it ranks, in words that follow "every video is ranked by"."""

    @abstractmethod
    def attention(self, similarity: NDArray[np.float32], side: int = 0) -> NDArray[np.float32]:
        """(M,) weights that it gives the super images of one video, from their similarities (M,) to the query; for
        pictures.

        side: the number of the index that the super images are of.
        """

    def nominates(self) -> bool:
        """Whether its best videos are among those that the vector index nominates, completed to whole videos."""
        return False

    def is_exact(self) -> bool:
        """Whether all vectors of every video take part."""
        return True

    def is_staged(self) -> bool:
        """Whether videos that a first stage did not recall are scored otherwise than the rest."""
        return any(side.is_staged() for side in self.sides())

    def recalls(self) -> int | None:
        """How many nominated videos it looks at; None for all."""
        return None

    def check(self, specs: Sequence[Stored], uris: Sequence[str]) -> None:
        """Raises QueryError for indexes, what they store and a name each, that it cannot rank with."""
        for side, spec, uri in zip(self.sides(), specs, uris, strict=False):
            side.check([spec], [uri])

    def asked_as(self) -> str:
        """The name under which it is asked for, "sparse:3" say."""
        return self.name if self.argument is None else f"{self.name}:{getattr(self, self.argument)}"

    def numbers(self) -> dict[str, Any]:
        """Its numbers, by field, but for the one that its name gives."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names if name != self.argument}

    def describe(self) -> dict[str, Any]:
        """What reports and JSON say of it."""
        return {"aggregation": self.asked_as(), **self.numbers()}

    def label(self) -> str:
        """A few words for a chart."""
        numbers = [f"{value:g}" for value in self.numbers().values() if isinstance(value, int | float)]
        return " ".join([self.asked_as(), *numbers])

    def sides(self) -> tuple["Method", ...]:
        """The methods of the indexes that it combines; none for a method of one index."""
        return ()

    def with_sides(self, sides: Sequence["Method"]) -> Self:
        """The same over other methods of its indexes."""
        return self

    def useless(self) -> set[str]:
        """Its numbers that change nothing beside the others."""
        return set()

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        """{field: values to choose from on validation queries, over n_videos}; of equally good ones the first is
        taken."""
        return {}

    def score_each(
        self, methods: Sequence[Self], queries: Queries, rankers: Sequence["Ranker"]
    ) -> Iterator[NDArray[np.float32]]:
        """`score` of several methods of this kind, which differ in a number; one at a time, so that they need not be
        held."""
        return (method.score(queries, rankers) for method in methods)

    def encodings(self, n_images: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """For each index, (V,) how many of a video's super images it needs encoded, from how many there are."""
        return list(n_images)


def check_temperature(name: str, value: float) -> None:
    """Raises SpecError for a temperature that is none."""
    if not (np.isfinite(value) and value >= _LEAST_TEMPERATURE):
        raise SpecError(
            f"{name} {value}: choose a number from {_LEAST_TEMPERATURE:g} up (towards 0 it becomes max pooling)"
        )
