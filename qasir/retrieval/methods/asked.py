"""From what a person asks for by name to a method of the indexes at hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from qasir.errors import QueryError
from qasir.options import options_of
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.named import HYBRIDS, METHODS, made, said, with_numbers

Numbers = Mapping[str, Sequence[Any]]
"""{field of a method: the values given for it}: one, or for the methods of a hybrid's sides one for each index."""
_OF_TWO_STAGES = ("recall", "rerank")
"""Who gives one of these wants to rank from coarse to fine."""


def check_indexes(n_indexes: int, hybrid: str | None) -> None:
    """Raises QueryError when so many indexes do not go with the hybrid, or with none."""
    if hybrid is None:
        if n_indexes != 1:
            raise QueryError(f"{n_indexes} indexes: give --hybrid {' or '.join(HYBRIDS)} to combine two")
        return
    if hybrid not in HYBRIDS:
        raise QueryError(f"hybrid {hybrid!r}: choose one of {', '.join(HYBRIDS)}")
    if n_indexes != 2:
        raise QueryError(f"--hybrid {hybrid} takes two --index, the expensive model's first; {n_indexes} given")


def asked(defaults: Sequence[Method], aggregation: str | None, hybrid: str | None, numbers: Numbers) -> Method:
    """The method of one index or of two. defaults: how each index is ranked with unless asked otherwise; what is not
    given is as there.

    Raises QueryError or SpecError for what does not go together.
    """
    own = {} if hybrid is None else {name: values for name, values in numbers.items() if name in _of_hybrids()}
    of_sides = {name: values for name, values in numbers.items() if name not in own}
    if aggregation is None and hybrid is None and any(name in numbers for name in _OF_TWO_STAGES):
        aggregation = CoarseToFine.name
    sides = [
        made(aggregation or default.asked_as(), _of_side(of_sides, number, len(defaults)), like=default)
        for number, default in enumerate(defaults)
    ]
    if hybrid is None:
        return sides[0]
    return combined(hybrid, own).with_sides(sides)


def combined(hybrid: str, numbers: Numbers) -> Method:
    """The hybrid of this name with numbers of its own, of which there is one each. Raises QueryError."""
    return with_numbers(HYBRIDS[hybrid], {name: _single(name, values) for name, values in numbers.items()})


def _of_hybrids() -> set[str]:
    """The numbers that are of hybrids only, whichever is asked for."""
    own = {option.field for kind in HYBRIDS.values() for option in options_of(kind)}
    return own - {option.field for kind in METHODS.values() for option in options_of(kind)}


def _of_side(numbers: Numbers, side: int, n_sides: int) -> dict[str, Any]:
    """The numbers of one side's method."""
    found = {}
    for name, values in numbers.items():
        if len(values) not in (1, n_sides):
            plural = f"{said(name)}s"
            raise QueryError(f"{len(values)} {plural} for {n_sides} index{'es' * (n_sides > 1)}: give one for each")
        found[name] = values[side if len(values) > 1 else 0]
    return found


def _single(name: str, values: Sequence[Any]) -> Any:
    if len(values) != 1:
        raise QueryError(f"{said(name)} {', '.join(map(str, values))}: give one")
    return values[0]
