"""Options that searching and evaluating share: one index or two, and how they rank."""

from dataclasses import dataclass, field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

from qasir.options import Doc, Flag, Option, Shown
from qasir.retrieval.methods.asked import Numbers
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.named import HYBRIDS, METHODS, number_options, spelled, users_of


@dataclass(frozen=True)
class Ranking:
    """What is ranked, through what, and by which method."""

    index: Annotated[tuple[str, ...], Doc("The index; with --hybrid twice, the expensive model's first.")]
    finetuned: Annotated[
        tuple[str, ...],
        Doc("Folder of a fine-tuned checkpoint; goes with the index of the encoder spec it was trained on."),
    ] = ()
    aggregation: Annotated[
        str | None,
        Doc(f"{', '.join(map(spelled, METHODS.values()))}; sparse:N needs an index of grid 1."),
        Shown(f"{Attention.name}, or what a fine-tuned checkpoint was trained for"),
    ] = None
    hybrid: Annotated[str | None, Doc(f"Combine two indexes: {' or '.join(HYBRIDS)}.")] = None


@dataclass(frozen=True)
class RankingAnywhere(Ranking):
    """The same, of an index or of whatever a server searches."""

    index: Annotated[
        tuple[str, ...],
        Doc("The index; with --hybrid twice, the expensive model's first. Needed without --server."),
        Shown("that of the server"),
    ] = ()


def _field(option: Option) -> tuple[str, Any, Any]:
    """A method's number as the command line takes it: once, or once per index where the methods of a hybrid's sides
    have it."""
    of_one_index = any(option.field in kind.__dataclass_fields__ for kind in METHODS.values())  # type: ignore[attr-defined]
    parts = get_args(option.type)
    default = ",".join(option.default) if parts else str(option.default)
    shown = f"{default}, or the checkpoint's" if option.type is float and of_one_index else default
    doc = f"{option.doc} For {', '.join(users_of(option.field))}."
    kind = str if parts else option.type
    notes = Doc(doc), Flag(option.flag), Shown(shown)
    return _named(option), Annotated[tuple[kind, ...], *notes], field(default=())  # type: ignore[valid-type]


def _named(option: Option) -> str:
    """By its flag, since what a method calls top_k a command line may call otherwise."""
    return option.flag.lstrip("-").replace("-", "_")


if TYPE_CHECKING:
    MethodNumbers = Any
else:
    MethodNumbers = make_dataclass(
        "MethodNumbers", [_field(option) for option in number_options().values()], frozen=True
    )
"""The numbers of all methods, as they are listed in the code; each empty where it is not given."""


def given_as(numbers: Any) -> list[tuple[str, str]]:
    """(name, value) of each number that was given, as it was given, in order."""
    names = [_named(option) for option in number_options().values()]
    return [(name, str(value)) for name in names for value in getattr(numbers, name)]


def given_numbers(numbers: Any) -> Numbers:
    """{field: the values given for it}, lists taken apart at their commas."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, option in number_options().items():
        values = getattr(numbers, _named(option))
        if values and get_args(option.type):
            values = tuple(tuple(part.strip() for part in value.split(",")) for value in values)
        if values:
            found[name] = values
    return found
