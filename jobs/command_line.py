"""Makes a job's command line from its function: an option for every parameter, and for every field of a parameter's
dataclass.

A job imports what it works with inside its function, and at its head only what its options are made of: dataclasses and
names, which import no torch, Lance or Ray. So `--help` and a wrong option answer at once.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from qasir.options import Option, options_of

Json = Annotated[bool, typer.Option("--json", help="Make the last line of stdout one JSON object with the same facts.")]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Given:
    """What a person gave: {parameter: the option as the command line has it}. A job's parameter of this type is no
    option."""

    options: Mapping[str, str]

    def refuse(self, parameters: Iterable[str], why: str) -> None:
        """Raises a usage error that names those of these parameters that were given, if any were."""
        named = [self.options[name] for name in parameters if name in self.options]
        if named:
            raise typer.BadParameter(f"{why}: leave out {', '.join(named)}")


def job(main: Callable[..., None]) -> typer.Typer:
    """A one-command Typer app around `main`. A parameter whose type is a dataclass stands for its options
    (`qasir.options.options_of`), which are gathered into one again."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(_flat(main))
    return app


def _flat(main: Callable[..., None]) -> Callable[..., None]:
    hints = get_type_hints(main, include_extras=True)
    groups: dict[str, tuple[type, list[Option]]] = {}
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(main).parameters.items():
        kind = hints[name]
        if kind is Given:
            flat.append(parameter.replace(annotation=typer.Context, kind=inspect.Parameter.KEYWORD_ONLY))
        elif isinstance(kind, type) and is_dataclass(kind):
            groups[name] = (kind, list(options_of(kind)))
            flat += [_parameter(option) for option in groups[name][1]]
        else:
            flat.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
    doubled = {one.name for one in flat if sum(other.name == one.name for other in flat) > 1}
    if doubled:
        raise TypeError(f"{main.__name__} has two options named {', '.join(sorted(doubled))}")

    @functools.wraps(main)
    def call(**values: Any) -> None:
        for name, (kind, options) in groups.items():
            values[name] = kind(**{option.field: _value(option, values.pop(option.field)) for option in options})
        main(**{name: _given(value) if hints[name] is Given else value for name, value in values.items()})

    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return call


def _given(context: typer.Context) -> Given:
    options = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if source is not None and source.name == "COMMANDLINE":
            turned_off = parameter.secondary_opts and context.params[parameter.name] is False
            options[parameter.name] = (parameter.secondary_opts if turned_off else parameter.opts)[0]
    return Given(options)


def _parameter(option: Option) -> inspect.Parameter:
    """The option as typer wants it; what must be given has no default."""
    about: dict[str, Any] = {"help": option.doc}
    if option.shown is not None:
        about["show_default"] = option.shown
    kind, default = option.type, option.default
    if option.range is not None:
        about |= {"min": option.range.least, "max": option.range.most}
    if get_origin(kind) is Literal:
        kind = str  # whoever takes the option knows what there is, and says so
    if _is_time(option):
        kind = timedelta | None if type(None) in get_args(kind) else timedelta
        about |= {"parser": duration, "metavar": "TIME"}
        default = None if default is None else _text(default)
    elif get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
        if not option.required:
            kind, default = kind | None, list(default) or None
    is_flag = kind is bool and default is False
    names = [option.flag] if is_flag or option.flag != "--" + option.field.replace("_", "-") else []
    made = inspect.Parameter.empty if option.required else default
    return inspect.Parameter(
        option.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=made,
        annotation=Annotated[kind, typer.Option(*names, **about)],
    )


def _value(option: Option, given: Any) -> Any:
    """What the dataclass wants of what the command line gave."""
    if isinstance(given, timedelta) and not isinstance(option.default, timedelta):
        return given.total_seconds()
    return tuple(given or ()) if get_origin(option.type) is tuple else given


def _is_time(option: Option) -> bool:
    return option.field.endswith("_s") or option.type is timedelta


def _text(length: float | timedelta) -> str:
    """A length of time as `duration` reads it."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def duration(text: str) -> timedelta:
    """A length of time on the command line: 30s, 5m, 2h, 7d, 1w."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r}: give a number and a unit, such as 30s, 5m, 2h or 7d")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})
