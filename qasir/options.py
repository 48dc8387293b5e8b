"""Options that travel together are the fields of one frozen dataclass; command lines and the tables in docs are made
from it.

A field is `Annotated[type, Doc("what it does")] = default`. Flag names it otherwise on the command line, Range says between which values it
lies, Shown what the default means where that is not its value. Which of its options a choice has no use for, a dataclass says by a property
`useless`; who gave one anyway hears of it from `refuse_useless`.
"""

from collections.abc import Iterator, Set
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typing_extensions import Doc

from qasir.errors import SpecError

__all__ = ["Doc", "Flag", "Option", "Range", "Shown", "options_of", "refuse_useless"]


@dataclass(frozen=True)
class Flag:
    """The option's name on a command line, "--format" say, where it is not the field's; "--clamp/--no-clamp" for both
    ways of a bool that is false by default."""

    name: str


@dataclass(frozen=True)
class Range:
    """The least and the largest value; None where there is no limit."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Shown:
    """What help and documentation show as the default, "the model's own" say for a None."""

    default: str


@dataclass(frozen=True)
class Option:
    """One field: its name, its type, its default (MISSING where it must be given), and what is said of it."""

    field: str
    type: Any
    default: Any
    doc: str
    flag: str
    shown: str | None
    range: Range | None = None

    @property
    def required(self) -> bool:
        return self.default is MISSING


def options_of(kind: type) -> Iterator[Option]:
    """The options of a dataclass, in order; fields without a Doc are no options. Lengths of time (fields that end in
    _s) are named without that ending on a command line, where they are given as 30s, 5m or 2h."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            continue
        bare, *notes = get_args(hint)
        doc = next((note.documentation for note in notes if isinstance(note, Doc)), None)
        if doc is None:
            continue
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        flag = next((note.name for note in notes if isinstance(note, Flag)), None)
        shown = next((note.default for note in notes if isinstance(note, Shown)), None)
        limits = next((note for note in notes if isinstance(note, Range)), None)
        name = field.name.removesuffix("_s")
        yield Option(field.name, bare, default, doc, flag or "--" + name.replace("_", "-"), shown, limits)


def refuse_useless(options: Any, given: Set[str]) -> None:
    """Raises SpecError that names every given option that these have no use for.

    options: a dataclass whose `useless` is {field: why}; given: names of the fields that somebody chose a value for.
    """
    flags = {option.field: option.flag.split("/")[0] for option in options_of(type(options))}
    told = [f"{flags[field]} {why}" for field, why in options.useless.items() if field in given]
    if told:
        raise SpecError("; ".join(told) + ": leave it out")
