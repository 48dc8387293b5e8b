"""Which files of a corpus to look at, and what is known of all of them from those (stratified sampling: Cochran,
"Sampling Techniques", 3rd edition, chapters 5 and 6).

Files are put into strata by a number known of all of them, their size say, and each stratum is looked at in an order of
which every beginning is spread over the listing. Strata take turns, so a look may end at any moment and what was seen
stands for the whole. Nothing is drawn by chance: the same corpus gives the same sample.

Intervals are of 95 %, by Student's t over the files of each stratum, with Satterthwaite's degrees of freedom.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

_STUDENT = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 8: 2.306, 10: 2.228, 15: 2.131, 20: 2.086, 30: 2.042,
    60: 2.000, math.inf: 1.960,
}  # fmt: skip
"""{degrees of freedom: what 2.5 % of Student's t lie above}."""
_LEAST_A_STRATUM = 2
"""Files that tell how much files differ."""


@dataclass(frozen=True)
class Interval:
    """A value, and between what it lies; all three alike where nothing was left to chance."""

    value: float
    low: float
    high: float

    @property
    def is_exact(self) -> bool:
        return self.low == self.value == self.high


@dataclass(frozen=True)
class Estimated:
    """What a sample says of a number: the variance is that of the estimate, on so many degrees of freedom."""

    value: float
    variance: float = 0.0
    degrees: float = math.inf

    def interval(self) -> Interval:
        """No lower than 0, since what is estimated here are amounts. Where one file is all that was seen of many,
        nothing is known of how they differ, and the interval is without an end."""
        if self.variance <= 0:
            return Interval(self.value, self.value, self.value)
        if self.degrees < 1:
            return Interval(self.value, 0.0, math.inf)
        half = student(self.degrees) * math.sqrt(self.variance)
        return Interval(self.value, max(0.0, self.value - half), self.value + half)

    def scaled(self, factor: float) -> "Estimated":
        return Estimated(factor * self.value, factor**2 * self.variance, self.degrees)

    def times(self, other: "Estimated") -> "Estimated":
        """Of a product of two, as if they had been estimated apart: the squares of relative errors add up."""
        value = self.value * other.value
        parts = [other.value**2 * self.variance, self.value**2 * other.variance]
        return Estimated(value, sum(parts), _degrees(parts, [self.degrees, other.degrees]))


def student(degrees: float) -> float:
    """Of this many degrees of freedom, 1 at least, what 2.5 % of Student's t lie above; between those of the table
    straight over 1 / degrees, which is right to 1 % from 2 of them up."""
    known = sorted(_STUDENT, reverse=True)
    return float(np.interp(1 / degrees, [1 / each for each in known], [_STUDENT[each] for each in known]))


def linear(parts: Sequence[tuple[float, Estimated]]) -> Estimated:
    """Of a sum of factor x number, of numbers estimated apart."""
    variances = [factor**2 * one.variance for factor, one in parts]
    value = sum(factor * one.value for factor, one in parts)
    return Estimated(value, sum(variances), _degrees(variances, [one.degrees for _, one in parts]))


def strata(measure: Sequence[float], most: int) -> list[list[int]]:
    """The numbers of the files, in at most so many strata of about the same total, each in the order to look at them.

    measure: a number a file, about as large as what will be estimated. Half of what counts is the mean, so that a
    stratum of the smallest files is not most of the corpus.
    """
    n = len(measure)
    sizes = np.asarray(measure, np.float64)
    order = np.argsort(sizes, kind="stable")
    weight = sizes[order] + max(sizes.mean(), 1e-9) if n else sizes
    n_strata = max(1, min(most, n // _LEAST_A_STRATUM))
    middle = (np.cumsum(weight) - weight / 2) / weight.sum() if n else weight
    number = np.minimum((middle * n_strata).astype(int), n_strata - 1)
    parts = [sorted(order[number == k].tolist()) for k in range(n_strata)]
    return [[part[rank] for rank in spread(len(part))] for part in parts if part]


def spread(n: int) -> Iterator[int]:
    """0 .. n - 1 in an order of which every beginning is spread over all (van der Corput's: by reversed bits)."""
    bits = max(1, (n - 1).bit_length())
    for number in range(1 << bits):
        rank = int(f"{number:0{bits}b}"[::-1], 2)
        if rank < n:
            yield rank


def turns(parts: Sequence[Sequence[int]]) -> Iterator[int]:
    """All members, one of each stratum at a time, the last (that of the largest files) first."""
    for at in range(max(map(len, parts), default=0)):
        for part in reversed(parts):
            if at < len(part):
                yield part[at]


def total(parts: Sequence[Sequence[int]], values: Mapping[int, float]) -> Estimated:
    """The sum over all files, from the values of those that were looked at. Exact where that is all."""
    seen = _with_enough([(len(part), [values[i] for i in part if i in values]) for part in parts])
    value, variances, degrees = 0.0, [], []
    for size, found in seen:
        n = len(found)
        value += size * float(np.mean(found))
        if n < size:
            spread_of = float(np.var(found, ddof=1)) if n > 1 else 0.0
            variances.append(size**2 * (1 - n / size) * spread_of / n if n > 1 else math.inf)
            degrees.append(n - 1)
    if math.inf in variances:
        return Estimated(value, math.inf, 0.0)
    return Estimated(value, sum(variances), _degrees(variances, degrees))


def weights(parts: Sequence[Sequence[int]], seen: Mapping[int, object]) -> dict[int, float]:
    """How many files of the corpus each one that was looked at stands for."""
    found: dict[int, float] = {}
    for size, some in _with_enough([(len(part), [i for i in part if i in seen]) for part in parts]):
        found |= dict.fromkeys(some, size / len(some))
    return found


def ratio(
    parts: Sequence[Sequence[int]],
    weight: Mapping[int, float],
    y: Mapping[int, float],
    x: Mapping[int, float],
    *,
    is_timed: bool = False,
) -> Estimated:
    """sum(y) over sum(x) of all files: the combined ratio estimate. Its variance is that of y - ratio * x within
    strata.

    weight: how many files each stands for in its stratum's share of a first look; y of those that were measured, x of
    all of the first look. is_timed: y would be another number if it were measured again, so it counts as drawn from
    more of its like, even where it is all there is. Where it is not, and every y is its x, so are the others.
    """
    if y and not is_timed and all(y[i] == x[i] for i in y):
        return Estimated(1.0)
    groups = _with_enough([(len(part), [i for i in part if i in y]) for part in parts], even_alone=is_timed)
    scaled = {i: weight[i] * size / len(some) for size, some in groups for i in some}
    over = sum(scaled[i] * x[i] for i in scaled)
    if over <= 0:
        return Estimated(0.0, math.inf, 0.0)
    value = sum(scaled[i] * y[i] for i in scaled) / over
    variances, degrees = [], []
    for size, some in groups:
        n = len(some)
        left = 1.0 if is_timed else 1 - n / size
        if left > 0:
            rest = [scaled[i] * (y[i] - value * x[i]) for i in some]
            variances.append(left * n * float(np.var(rest, ddof=1)) / over**2 if n > 1 else math.inf)
            degrees.append(n - 1)
    if math.inf in variances:
        return Estimated(value, math.inf, 0.0)
    return Estimated(value, sum(variances), _degrees(variances, degrees))


def mean(values: Sequence[float]) -> Estimated:
    """Of repeated measurements."""
    n = len(values)
    if n < _LEAST_A_STRATUM:
        return Estimated(float(np.mean(values)))
    return Estimated(float(np.mean(values)), float(np.var(values, ddof=1)) / n, n - 1)


_Seen = TypeVar("_Seen")


def _with_enough(
    parts: Sequence[tuple[int, list[_Seen]]], *, even_alone: bool = False
) -> list[tuple[int, list[_Seen]]]:
    """(size, what was seen) of strata, those of which too little was seen joined to a neighbour. even_alone: also where
    the one file of a stratum was seen."""

    def is_enough(size: int, found: list[_Seen]) -> bool:
        return len(found) >= (_LEAST_A_STRATUM if even_alone else min(_LEAST_A_STRATUM, size))

    joined: list[tuple[int, list[_Seen]]] = []
    for size, found in parts:
        if joined and not (is_enough(size, found) and is_enough(*joined[-1])):
            joined[-1] = joined[-1][0] + size, joined[-1][1] + found
        else:
            joined.append((size, list(found)))
    return [(size, found) for size, found in joined if found]


def _degrees(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Satterthwaite's, of a sum of variances."""
    over = sum(v**2 / d for v, d in zip(variances, degrees, strict=True) if v > 0 and d > 0)
    if over <= 0:
        return 0.0 if any(v > 0 for v in variances) else math.inf
    return sum(variances) ** 2 / over
