"""Options that travel together are the fields of one frozen dataclass; command lines and the tables in docs are made from it.

A field is `Annotated[type, Doc("what it does")] = default`. Flag names it otherwise on the command line, Range says between which values it
lies, Shown what the default means where that is not its value.
"""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typing_extensions import Doc

__all__ = ["Doc", "Flag", "Option", "Range", "Shown", "options_of"]


@dataclass(frozen=True)
class Flag:
    """The option's name on a command line, "--format" say, where it is not the field's."""

    name: str


@dataclass(frozen=True)
class Range:
    """The least and the largest value."""

    least: float
    most: float


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
    range: Range | None

    @property
    def required(self) -> bool:
        return self.default is MISSING


def options_of(kind: type) -> Iterator[Option]:
    """The options of a dataclass, in order; fields without a Doc are no options. Lengths of time (fields that end in _s) are
    named without that ending on a command line, where they are given as 30s, 5m or 2h."""
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
