"""Reads corpus.yaml: one corpus and the indexes that one decode of it feeds.

videos: a folder, glob or manifest
indexes:
  - uri: a folder or object-store URI
    model, pretrained, grid, fps, image_size, fit, precision, cells, thumbnails: as `EncoderOptions`

Local paths are relative to the file's folder.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from qasir.encoding.options import EncoderOptions
from qasir.files.yaml_file import YamlFile, entry_model


@dataclass(frozen=True, kw_only=True)
class IndexConfig(EncoderOptions):
    """One index: where it is, and the options that make it."""

    uri: str


@dataclass(frozen=True)
class CorpusConfig:
    """A corpus and its indexes."""

    videos: str
    indexes: tuple[IndexConfig, ...]


_ENTRY = entry_model(IndexConfig)


def load_corpus_config(path: str | Path) -> CorpusConfig:
    """Raises ConfigError that names the file, the line and the key."""
    file = YamlFile(path)
    data = file.mapping(file.data, [], ("videos", "indexes"))
    if not isinstance(data.get("videos"), str) or not data["videos"].strip():
        raise file.error(["videos"], "name a folder, a glob or a manifest")
    entries = data.get("indexes")
    if not isinstance(entries, list) or not entries:
        raise file.error(["indexes"], "give a list of indexes")
    indexes = []
    seen: dict[str, int] = {}
    for number, entry in enumerate(entries):
        index = IndexConfig(**file.checked(_ENTRY, entry, ["indexes", number]))
        uri = file.beside(index.uri)
        if uri in seen:
            raise file.error(["indexes", number, "uri"], f"the same as indexes[{seen[uri]}].uri: {uri}")
        seen[uri] = number
        indexes.append(
            replace(index, uri=uri, model=file.model(index.model), pretrained=file.checkpoint(index.pretrained))
        )
    return CorpusConfig(file.beside(data["videos"]), tuple(indexes))
