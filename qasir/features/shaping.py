"""From an array as it is stored to vectors that can be compared: what is wrong with it is an error, never mended in
silence."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qasir.errors import FeaturesError
from qasir.features.feature_file import Array

LENGTH_TOLERANCE = 0.01
"""How far from 1 the length of a vector may be that counts as normalised: float16 rounds a thousandth."""


class NotFiniteError(FeaturesError):
    """Features with NaN or infinite numbers."""


@dataclass(frozen=True)
class Columns:
    """The columns first to last (without it) of wider rows."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "Columns":
        """A:B, counted from 0, without B. Raises FeaturesError."""
        found = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
        if found is None or int(found[1]) >= int(found[2]):
            raise FeaturesError(f"columns {text!r}: give A:B with A below B, 2304:2816 say, counted from 0, without B")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"

    def of(self, rows: Array, what: str) -> Array:
        if self.last > rows.shape[-1]:
            raise FeaturesError(f"{what}: {rows.shape[-1]} columns, and --columns {self} asked for")
        return rows[..., self.first : self.last]


@dataclass(frozen=True)
class Shaping:
    """How arrays become rows of L2-normalised vectors. columns: those that are used; None for all. normalise: whether
    vectors of any length are scaled to 1; without it another length is an error, which names the flag to ask for it."""

    columns: Columns | None = None
    normalise: bool = False
    flag: str = "--normalise"

    def __str__(self) -> str:
        parts = [f"columns {self.columns}"] if self.columns else []
        return ", ".join([*parts, "normalised" if self.normalise else "as given"])

    def rows(self, array: Array, what: str, dim: int | None = None) -> NDArray[np.float32]:
        """(n, D) float32 of an array (n, D'). what: whose it is, for errors.

        Raises FeaturesError for another shape or dimension than dim, a kind of numbers that no vectors have, and
        vectors of no or, unless they are to be normalised, another length than 1; NotFiniteError.
        """
        rows = self.chosen(array, what)
        if rows.ndim != 2 or not rows.size:
            raise FeaturesError(f"{what}: an array of shape {array.shape}, where (frames, dimensions) is wanted")
        if dim is not None and rows.shape[1] != dim:
            raise FeaturesError(f"{what}: vectors of {rows.shape[1]} dimensions, where {dim} are wanted")
        return self.of_length_one(rows, what)

    def chosen(self, array: Array, what: str) -> NDArray[np.float32]:
        """The columns that are used, as float32."""
        if array.dtype.kind != "f":
            raise FeaturesError(f"{what}: numbers of type {array.dtype}, where vectors of floats are wanted")
        if array.ndim == 0:
            raise FeaturesError(f"{what}: a single number, where vectors are wanted")
        if self.columns is not None:
            array = self.columns.of(array, what)
        with np.errstate(over="ignore"):
            return array.astype(np.float32)

    def of_length_one(self, rows: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        """(n, D) of which each is of length 1."""
        lengths = np.linalg.norm(rows, axis=1)
        if not np.isfinite(lengths).all():
            bad = np.flatnonzero(~np.isfinite(lengths))
            raise NotFiniteError(f"{what}: NaN or infinite numbers in {len(bad)} of {len(rows)} rows, {bad[0]} first")
        if self.normalise:
            if (bad := np.flatnonzero(lengths == 0)).size:
                raise FeaturesError(f"{what}: {len(bad)} of {len(rows)} rows are all zeros, {bad[0]} first")
            return rows / lengths[:, None]
        if (bad := np.flatnonzero(abs(lengths - 1) > LENGTH_TOLERANCE)).size:
            raise FeaturesError(
                f"{what}: {len(bad)} of {len(rows)} rows are not of length 1, {bad[0]} first ({lengths[bad[0]]:.4g}): "
                f"{self.flag} scales them"
            )
        return rows


def _last(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    return tokens[-1]


def _mean(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = tokens.mean(axis=0)
    return mean


def _max(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    most: NDArray[np.float32] = tokens.max(axis=0)
    return most


POOLINGS: Mapping[str, Callable[[NDArray[np.float32]], Any]] = {"last": _last, "mean": _mean, "max": _max}
"""How the tokens (L, D) of a text become one vector (D,)."""


def check_pooling(pooling: str | None) -> None:
    if pooling is not None and pooling not in POOLINGS:
        raise FeaturesError(f"pooling {pooling!r}: choose one of {', '.join(POOLINGS)}")


def pooled(array: NDArray[np.float32], pooling: str | None, what: str) -> NDArray[np.float32]:
    """(D,) of a text's features: (D,) as they are, (L, D) by its pooling. Raises FeaturesError where there is none."""
    if array.ndim == 1 and array.size:
        return array
    if array.ndim != 2 or not array.size:
        raise FeaturesError(f"{what}: an array of shape {array.shape}, where (D,) or (tokens, D) is wanted")
    if pooling is None:
        raise FeaturesError(
            f"{what}: {array.shape[0]} tokens of {array.shape[1]} dimensions: say by --query-pooling how they become "
            f"one vector, {', '.join(POOLINGS)}"
        )
    vector: NDArray[np.float32] = POOLINGS[pooling](array)
    return vector
