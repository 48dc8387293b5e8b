"""A YAML file whose errors name the file, the line and the key."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import core_schema

from qasir.errors import ConfigError
from qasir.files.uris import is_remote, local_path

Keys = Sequence[str | int]
Kind = TypeVar("Kind")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


class YamlFile:
    """The parsed file: `data`, and errors about any place in it.

    Raises ConfigError when it cannot be read or is not YAML.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            text = self.path.read_text(encoding="utf-8")
            self._node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data: Any = yaml.safe_load(text)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not a text file") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None

    def error(self, keys: Keys, problem: str) -> ConfigError:
        """An error about what the keys lead to."""
        where = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys).lstrip(".")
        return ConfigError(
            f"{self.path}:{self._line(keys)}: {where}: {problem}" if where else f"{self.path}: {problem}"
        )

    def checked(self, kind: type[Kind], *, crossed: bool = False) -> Kind:
        """The whole file as a dataclass, made by pydantic: strict about keys and types, inside it too.

        crossed: in a list, an entry with lists for values stands for one entry for each of their combinations.
        Raises ConfigError about the first thing wrong.
        """
        numbers, data = self._crossed() if crossed else ({}, self.data)
        # As JSON, where pydantic, strict about types, still takes a list for a tuple and a mapping for a dataclass.
        text = json.dumps(data, default=str)
        try:
            return TypeAdapter(kind).validate_json(text, strict=True, extra="forbid")
        except ValidationError as invalid:
            # A key that nobody knows is why another is missing.
            first = min(invalid.errors(), key=lambda error: error["type"] not in _UNKNOWN)
        keys = list(first["loc"])
        if len(keys) > 1 and keys[0] in numbers:
            keys[1] = numbers[str(keys[0])][int(keys[1])]
        raise self._invalid(kind, keys, first)

    def _crossed(self) -> tuple[dict[str, list[int]], Any]:
        """(for each list, the number in the file of each entry; the file's data with crossed lists written out)."""
        if not isinstance(self.data, dict):
            return {}, self.data
        numbers: dict[str, list[int]] = {}
        data = dict(self.data)
        for key, entries in self.data.items():
            if isinstance(entries, list):
                written = [(i, one) for i, entry in enumerate(entries) for one in self._crossings([key, i], entry)]
                numbers[key], data[key] = [i for i, _ in written], [one for _, one in written]
        return numbers, data

    def _crossings(self, keys: Keys, entry: Any) -> list[Any]:
        if not isinstance(entry, dict):
            return [entry]
        lists = [value if isinstance(value, list) else [value] for value in entry.values()]
        for name, values in zip(entry, lists, strict=True):
            if not values:
                raise self.error([*keys, name], "an empty list crosses nothing")
        return [dict(zip(entry, values, strict=True)) for values in itertools.product(*lists)]

    def _invalid(self, kind: type, keys: Keys, found: Any) -> ConfigError:
        """What pydantic found wrong at keys, in the words of the field that they lead to."""
        types = _types_along(kind, keys)
        if found["type"] in _UNKNOWN:
            return self.error(keys, f"unknown key; the keys are {', '.join(_fields(types[-1]))}")
        if found["type"] in ("dataclass_type", "dict_type"):
            given = "" if found["input"] is None else f", not {found['input']!r}"
            return self.error(keys, f"expected the keys {', '.join(_fields(types[-1]))}{given}")
        if found["type"] == "value_error":
            return self.error(keys, str(found["ctx"]["error"]))
        # Of a list of plain values the whole list is what is wrong.
        field = keys[:-1] if keys and isinstance(keys[-1], int) else keys
        wanted = next((note.text for note in _notes(types[len(field)]) if isinstance(note, Wanted)), None)
        if wanted is not None:
            given = self._value(field)
            return self.error(field, wanted + ("" if given is None else f", not {given!r}"))
        return self.error(keys, "missing" if found["type"] == "missing" else f"{found['msg']}, not {found['input']!r}")

    def _value(self, keys: Keys) -> Any:
        """What the keys lead to in the file, or None."""
        value = self.data
        for key in keys:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value

    def beside(self, uri: str) -> str:
        """A URI, or a local path relative to the file's folder, absolute."""
        return uri if is_remote(uri) else str((self.path.parent / Path(local_path(uri)).expanduser()).absolute())

    def model(self, name: str) -> str:
        """A model's name; the folder of a `local-dir:` one as `beside` has it."""
        kind, _, folder = name.partition(":")
        return f"{kind}:{self.beside(folder)}" if kind == "local-dir" else name

    def checkpoint(self, pretrained: str | None) -> str | None:
        """A path where there is such a file beside this one, else an open_clip tag."""
        if pretrained is not None and (self.path.parent / pretrained).is_file():
            return str((self.path.parent / pretrained).absolute())
        return pretrained

    def _line(self, keys: Keys) -> int:
        """The line of a key, or of the nearest thing around it that is there."""
        node: Any = self._node
        line = 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == key), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                line = node.start_mark.line + 1
            else:
                break
        return line


@dataclass(frozen=True)
class Wanted:
    """In a field's Annotated: what an error about it says, "name a folder", say; instead of what pydantic says."""

    text: str


class SomeOf:
    """In the Annotated of a dict: some fields of a dataclass, and more, each of its type; the dict has those given."""

    def __init__(self, kind: type, **more: Any) -> None:
        self.fields: dict[str, Any] = {**get_type_hints(kind), **more}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        schemas = {name: handler.generate_schema(hint) for name, hint in self.fields.items()}
        return core_schema.typed_dict_schema(
            {name: core_schema.typed_dict_field(schema, required=False) for name, schema in schemas.items()},
            extra_behavior="forbid",
        )


def _types_along(kind: Any, keys: Keys) -> list[Any]:
    """The type of the file, and of what each key leads to, as far as they are known."""
    types = [kind]
    for key in keys:
        if isinstance(key, int):
            inside = get_args(_bare(types[-1]))[:1]
        else:
            inside = tuple(hint for name, hint in _fields(types[-1]).items() if name == key)
        types += inside
    return types


def _fields(hint: Any) -> dict[str, Any]:
    """The type of each key of a mapping of a type."""
    some = next((note for note in _notes(hint) if isinstance(note, SomeOf)), None)
    if some is not None:
        return some.fields
    bare = _bare(hint)
    hints = get_type_hints(bare, include_extras=True) if is_dataclass(bare) else {}
    return {field.name: hints[field.name] for field in fields(bare)} if hints else {}


def _bare(hint: Any) -> Any:
    """A type without its notes and without `| None`."""
    if get_origin(hint) in (Annotated, UnionType):
        return _bare(get_args(hint)[0])
    return hint


def _notes(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())
