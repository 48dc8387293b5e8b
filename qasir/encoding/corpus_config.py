"""Reads corpus.yaml: one corpus and the indexes that one decode of it feeds.

videos: a folder, glob or manifest
frame_rate: pictures a second, where the videos are folders of numbered pictures
indexes:
  - uri: a folder or object-store URI
    model, pretrained, grid, fps, sampling, max_gap_s, image_size, fit, precision, cells, thumbnails: as
      `EncoderOptions`

Local paths are relative to the file's folder.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Len
from pydantic import AfterValidator, StringConstraints

from qasir.encoding.options import EncoderOptions
from qasir.files.credentials import without_credentials
from qasir.files.yaml_file import Wanted, YamlFile


@dataclass(frozen=True, kw_only=True)
class IndexConfig(EncoderOptions):
    """One index: where it is, and the options that make it."""

    uri: Annotated[str, AfterValidator(without_credentials)]


@dataclass(frozen=True)
class CorpusConfig:
    """A corpus and its indexes."""

    videos: Annotated[
        str,
        StringConstraints(pattern=r"\S"),
        AfterValidator(without_credentials),
        Wanted("name a folder, a glob or a manifest"),
    ]
    indexes: Annotated[tuple[IndexConfig, ...], Len(1), Wanted("give a list of indexes")]
    frame_rate: Annotated[float | str | None, Wanted("give pictures a second, as 3 or 30000/1001")] = None

    @property
    def rate(self) -> str | None:
        """As `qasir.video.corpus.list_videos` takes it."""
        return None if self.frame_rate is None else str(self.frame_rate)


def load_corpus_config(path: str | Path) -> CorpusConfig:
    """Local paths made absolute. Raises ConfigError that names the file, the line and the key."""
    file = YamlFile(path)
    config = file.checked(CorpusConfig)
    indexes = []
    seen: dict[str, int] = {}
    for number, index in enumerate(config.indexes):
        uri = file.beside(index.uri)
        if uri in seen:
            raise file.error(["indexes", number, "uri"], f"the same as indexes[{seen[uri]}].uri: {uri}")
        seen[uri] = number
        indexes.append(
            replace(index, uri=uri, model=file.model(index.model), pretrained=file.checkpoint(index.pretrained))
        )
    return CorpusConfig(file.beside(config.videos), tuple(indexes), config.frame_rate)
