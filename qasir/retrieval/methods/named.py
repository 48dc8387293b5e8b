"""The ways of ranking by their names: the one place where they are listed."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from qasir.errors import QueryError, SpecError
from qasir.options import Option, options_of
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.cascade import Cascade
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.fusion import Fusion
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.methods.weighted import Weighted

METHODS: dict[str, type[Method]] = {
    kind.name: kind for kind in (Attention, Mean, Max, TextGated, Weighted, Sparse, CoarseToFine)
}
"""Of one index: what `--aggregation` takes."""
HYBRIDS: dict[str, type[Method]] = {kind.name: kind for kind in (Fusion, Cascade)}
"""Of two: what `--hybrid` takes."""


def spelled(kind: type[Method]) -> str:
    """The name as it is given, "sparse:N" say."""
    return f"{kind.name}:N" if kind.argument else kind.name


def kind_of(name: str) -> str:
    """The kind of setting that a method makes in a study, by the name it is asked for; that of any other for an unknown
    one."""
    return METHODS.get(name.partition(":")[0], Method).kind


def argument_of(name: str) -> dict[str, int]:
    """{field: value} of what a name gives, {"grid": 3} for "sparse:3" say."""
    plain, _, value = name.partition(":")
    field = METHODS[plain].argument if plain in METHODS else None
    return {field: int(value)} if field is not None and value.isdecimal() else {}


def made(name: str, numbers: Mapping[str, Any] | None = None, *, like: Method | None = None) -> Method:
    """The method of one index by its name, with numbers by field; what is not given is as in `like`, or by default.

    Raises SpecError for a name that is none, QueryError for a number that the method has no use for, naming it.
    """
    plain, _, argument = name.partition(":")
    kind = METHODS.get(plain)
    own = argument_of(name)
    if kind is None or len(own) != (kind.argument is not None) or bool(argument) != bool(own):
        raise SpecError(f"aggregation {name!r}: choose one of {', '.join(map(spelled, METHODS.values()))}")
    return with_numbers(kind, {**(numbers or {}), **own}, like=like)


def with_numbers(kind: type[Method], given: Mapping[str, Any], *, like: Method | None = None) -> Method:
    """A method of this kind. Raises QueryError for a number it has no use for."""
    own = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in own:
            raise QueryError(f"{said(name)}: {kind.name} has no use for it; it is for {', '.join(users_of(name))}")
    taken = {} if like is None else {name: value for name, value in like.numbers().items() if name in own}
    method = kind(**{**taken, **given})
    for name in method.useless() & set(given):
        raise QueryError(f"{said(name)}: changes nothing beside the other numbers of {kind.name}")
    return method


def number_options() -> dict[str, Option]:
    """{field: option} of all methods' numbers, each once; where several have one of a name, the first one says what it
    is."""
    found: dict[str, Option] = {}
    for kind in (*METHODS.values(), *HYBRIDS.values()):
        for option in options_of(kind):
            found.setdefault(option.field, option)
    return found


def pooled_numbers() -> dict[str, Option]:
    """{field: option} of the numbers of methods in one stage."""
    own = {option.field for kind in METHODS.values() if issubclass(kind, Pooled) for option in options_of(kind)}
    return {name: option for name, option in number_options().items() if name in own}


def flag_of(field: str) -> str:
    """The option of a number on a command line."""
    options = number_options()
    return options[field].flag if field in options else f"--{field.replace('_', '-')}"


def said(field: str) -> str:
    """A number in words, for whoever gave it by an option or by a parameter of the API."""
    return field.replace("_", " ")


def users_of(field: str) -> list[str]:
    """The names of the methods that have a number of this name."""
    kinds = (*METHODS.values(), *HYBRIDS.values())
    return [kind.name for kind in kinds if any(option.field == field for option in options_of(kind))] or ["no method"]
