"""Queries' features that were published, instead of a text tower: taken as they are, and never guessed at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.features.shaping import POOLINGS, Shaping, check_pooling, pooled
from qasir.options import Doc, Shown

_NAMED = 5
_ALIKE = 0.01
"""How far apart two vectors of one text may be, since texts are encoded in batches and stored in float16."""


@dataclass(frozen=True)
class QueryFeatureOptions:
    """Where queries' features are, and how they become vectors."""

    query_features: Annotated[
        Path | None,
        Doc("Features of the queries, instead of a text tower: HDF5 by query id, or a folder of qid{N}.npz."),
    ] = None
    query_key: Annotated[
        str | None,
        Doc("The array of an .npz to read: pooler_output or last_hidden_state, say."),
        Shown("`features`, or the only one"),
    ] = None
    query_pooling: Annotated[
        str | None, Doc(f"How the tokens of a query become one vector: {', '.join(POOLINGS)}.")
    ] = None
    text_projection: Annotated[
        str | None,
        Doc("MODEL:PRETRAINED, the open_clip model whose projection takes tokens that are not projected to vectors."),
    ] = None
    query_normalise: Annotated[bool, Doc("Scale vectors (D,) to length 1; without it, another length is an error.")] = (
        False
    )


class QueryFeatures:
    """Features of queries by their ids. Raises FeaturesError for what cannot be read or used, ModelError for a
    projection that there is not.

    (D,) is taken as it is, but for its length with query_normalise. (L, D) is projected where that is asked for, then
    pooled and scaled to length 1.
    """

    def __init__(self, path: Path, options: QueryFeatureOptions) -> None:
        from qasir.features.opening import open_features  # pyarrow, which the options' command lines need not wait for

        check_pooling(options.query_pooling)
        self._options = options
        self._features = open_features(path, key=options.query_key)

    def vector(self, query_id: str, dim: int) -> NDArray[np.float32]:
        """(D,) of length 1. Raises QueryError where there is none for the id."""
        name = self._name(query_id)
        if name is None:
            raise QueryError(self._lacking([query_id], 1))
        what = f"{self._features.entries[name].path}: {name}"
        array = Shaping().chosen(self._features.read(name), what)
        is_given = array.ndim == 1 and self._options.text_projection is None
        shaping = Shaping(normalise=self._options.query_normalise or not is_given, flag="--query-normalise")
        if self._options.text_projection is not None:
            array = self._projected(array, what)
        found = pooled(array, self._options.query_pooling, what)
        if len(found) != dim:
            raise QueryError(
                f"{what}: a vector of {len(found)} dimensions, where the index has {dim}: is it of another model, or "
                "not projected (--text-projection)?"
            )
        return shaping.of_length_one(found[None], what)[0]

    @property
    def version(self) -> str:
        """A hash of what their files are."""
        return self._features.version

    def check(self, query_ids: Sequence[str]) -> None:
        """Raises QueryError that names the first of these without features."""
        lacking = [query_id for query_id in query_ids if self._name(query_id) is None]
        if lacking:
            raise QueryError(self._lacking(lacking, len(query_ids)))

    def _lacking(self, query_ids: Sequence[str], n: int) -> str:
        there = list(self._features.entries)
        return (
            f"{self._features.path}: no features of {len(query_ids):,} of {n:,} queries: {_some(query_ids)}; it has "
            f"those of {_some(there)}"
        )

    def _name(self, query_id: str) -> str | None:
        """What the file calls a query: its id, or qid and the id. A query whose id was there before, and is read as
        ID~2 for that, has the features of ID."""
        own, _, number = query_id.rpartition("~")
        names = [query_id, f"qid{query_id}", *([own, f"qid{own}"] if number.isdecimal() else [])]
        return next((name for name in names if name in self._features.entries), None)

    def _projected(self, states: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        matrix = self._projection
        if states.shape[-1] != len(matrix):
            raise QueryError(
                f"{what}: {states.shape[-1]} dimensions, and --text-projection {self._options.text_projection} takes "
                f"{len(matrix)}: is it projected already?"
            )
        projected: NDArray[np.float32] = states @ matrix
        return projected

    @cached_property
    def _projection(self) -> NDArray[np.float32]:
        from qasir.vlm.text_projection import text_projection

        assert self._options.text_projection is not None
        return text_projection(self._options.text_projection)


class EncodeGiven:
    """`qasir.retrieval.text_encoder.Encode` of texts whose queries have features.

    Everything that ranks asks by text, so texts that several queries have must have like features: QueryError.
    """

    def __init__(self, features: QueryFeatures, queries: Iterable[tuple[str, str]], dim: int) -> None:
        self._features = features
        self._dim = dim
        self._ids: dict[str, list[str]] = {}
        for query_id, text in queries:
            self._ids.setdefault(text, []).append(query_id)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) L2-normalised."""
        if unknown := [text for text in texts if text not in self._ids]:
            raise QueryError(f"{unknown[0]!r} is none of the queries with features: words need an index with a model")
        self._features.check([query_id for text in texts for query_id in self._ids[text]])
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float32]:
        first, *others = self._ids[text]
        vector = self._features.vector(first, self._dim)
        for other in others:
            if np.abs(self._features.vector(other, self._dim) - vector).max() > _ALIKE:
                raise QueryError(f"the queries {first!r} and {other!r} are one text, {text!r}, with different features")
        return vector


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" and so on" if len(names) > _NAMED else "")
