"""Reads corpus.yaml: one corpus and the indexes that one decode of it feeds.

videos: a folder, glob or manifest
indexes:
  - uri: a folder or object-store URI
    model, pretrained, grid, fps, image_size, fit, precision, cells, thumbnails: as `EncoderOptions`

Local paths are relative to the file's folder.
"""

from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import ConfigDict, ValidationError, create_model

from qasir.errors import ConfigError
from qasir.prepare import EncoderOptions
from qasir.source import is_remote
from qasir.stages.rows import MAX_INDEXES


@dataclass(frozen=True, kw_only=True)
class IndexConfig(EncoderOptions):
    """One index: where it is, and the options that make it."""

    uri: str


@dataclass(frozen=True)
class CorpusConfig:
    """A corpus and its indexes."""

    videos: str
    indexes: tuple[IndexConfig, ...]


_HINTS = get_type_hints(IndexConfig)
_TYPES: dict[str, Any] = {
    f.name: (_HINTS[f.name], ... if f.default is MISSING else f.default) for f in fields(IndexConfig)
}
_ENTRY: Any = create_model("_ENTRY", __config__=ConfigDict(extra="forbid", strict=True), **_TYPES)
"""Checks the types of one entry of `indexes`."""
_KEYS = ("videos", "indexes")
_INDEX_KEYS = tuple(f.name for f in fields(IndexConfig))


def load_corpus_config(path: str | Path) -> CorpusConfig:
    """Raises ConfigError that names the file, the line and the key."""
    path = Path(path)
    node, data = _parsed(path)

    def error(keys: list[str | int], problem: str) -> ConfigError:
        where = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys).lstrip(".")
        return ConfigError(f"{path}:{_line(node, keys)}: {where}: {problem}" if where else f"{path}: {problem}")

    if not isinstance(data, dict):
        raise error([], f"expected the keys {' and '.join(_KEYS)}")
    for key in data:
        if key not in _KEYS:
            raise error([key], f"unknown key; the keys are {', '.join(_KEYS)}")
    if not isinstance(data.get("videos"), str) or not data["videos"].strip():
        raise error(["videos"], "name a folder, a glob or a manifest")
    entries = data.get("indexes")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_INDEXES:
        raise error(["indexes"], f"give a list of 1 to {MAX_INDEXES} indexes")
    indexes = []
    seen: dict[str, int] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise error(["indexes", number], f"expected keys ({', '.join(_INDEX_KEYS)}), not {entry!r}")
        try:
            index = IndexConfig(**dict(_ENTRY.model_validate(entry)))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            raise error(["indexes", number, *first["loc"]], _problem(first)) from None
        uri = _beside(path, index.uri)
        if uri in seen:
            raise error(["indexes", number, "uri"], f"the same as indexes[{seen[uri]}].uri: {uri}")
        seen[uri] = number
        pretrained = index.pretrained
        if pretrained is not None and (path.parent / pretrained).is_file():
            pretrained = str((path.parent / pretrained).absolute())
        indexes.append(replace(index, uri=uri, pretrained=pretrained))
    return CorpusConfig(_beside(path, data["videos"]), tuple(indexes))


def _parsed(path: Path) -> tuple[yaml.Node | None, Any]:
    try:
        text = path.read_text()
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _problem(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key; the keys are {', '.join(_INDEX_KEYS)}"
    if error["type"] == "missing":
        return "missing"
    return f"{error['msg']}, not {error['input']!r}"


def _line(node: Any, keys: list[str | int]) -> int:
    """The line of a key, or of the nearest thing around it that is there."""
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


def _beside(path: Path, uri: str) -> str:
    return uri if is_remote(uri) else str((path.parent / Path(uri).expanduser()).absolute())
