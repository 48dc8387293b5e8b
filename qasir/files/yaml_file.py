"""A YAML file whose errors name the file, the line and the key."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from qasir.errors import ConfigError
from qasir.files.uris import is_remote

Keys = Sequence[str | int]


class YamlFile:
    """The parsed file: `data`, and errors about any place in it. Raises ConfigError when it cannot be read or is not YAML."""

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

    def mapping(self, data: Any, keys: Keys, known: Iterable[str]) -> dict[str, Any]:
        """data, if it is a mapping of known keys. Raises ConfigError."""
        known = list(known)
        if not isinstance(data, dict):
            raise self.error(
                keys, f"expected the keys {', '.join(known)}" + ("" if data is None else f", not {data!r}")
            )
        for key in data:
            if key not in known:
                raise self.error([*keys, key], unknown(known))
        return data

    def checked(self, model: type[BaseModel], data: Any, keys: Keys) -> dict[str, Any]:
        """data as pydantic's model has it, defaults filled in. Raises ConfigError about the first thing wrong."""
        known = list(model.model_fields)
        self.mapping(data, keys, known)
        try:
            return dict(model.model_validate(data))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            raise self.error([*keys, *first["loc"]], _problem(first, known)) from None

    def beside(self, uri: str) -> str:
        """A URI, or a local path relative to the file's folder, absolute."""
        return uri if is_remote(uri) else str((self.path.parent / Path(uri).expanduser()).absolute())

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


def entry_model(kind: Any, **more: Any) -> type[BaseModel]:
    """pydantic's model of a dataclass, strict about types and keys. more: fields beside the dataclass', as create_model takes them."""
    hints = get_type_hints(kind)
    types: dict[str, Any] = {f.name: (hints[f.name], ... if f.default is MISSING else f.default) for f in fields(kind)}
    return create_model(f"_{kind.__name__}", __config__=ConfigDict(extra="forbid", strict=True), **(types | more))


def unknown(known: Iterable[str]) -> str:
    return f"unknown key; the keys are {', '.join(known)}"


def _problem(error: Any, known: Iterable[str]) -> str:
    if error["type"] == "extra_forbidden":
        return unknown(known)
    if error["type"] == "missing":
        return "missing"
    return f"{error['msg']}, not {error['input']!r}"
