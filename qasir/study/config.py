"""Reads study.yaml: a corpus, its queries, and the settings to cross.

videos, queries, format, paragraphs: what is searched, and for what
validation: {videos, queries} where what a setting leaves open is chosen
encoders: entries as in corpus.yaml, without uri
scorings: entries of aggregation, temperature, gate_temperature, each for every encoder
finetuned: folders of checkpoints, each for the encoders it was trained on
hybrids: entries of hybrid, large, small, weight, top_k, where large and small pick an encoder by its keys
two_stage: entries of recall, recall_k, rerank, gate_temperature, each for every encoder

A list instead of a value stands for each of its values: lists of one entry are crossed.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qasir.encoding.options import EncoderOptions
from qasir.errors import QueryError
from qasir.evaluation.metrics import DEFAULT_MV_EDGES, check_edges
from qasir.evaluation.query_files import FORMATS
from qasir.files.yaml_file import Keys, YamlFile, entry_model

KEYS = (
    "videos", "queries", "format", "paragraphs", "validation", "mv_edges", "encoders", "scorings", "finetuned", "hybrids",
    "two_stage",
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """A corpus and the file of its queries."""

    videos: str
    queries: Path


@dataclass(frozen=True)
class ScoringChoice:
    """temperature None: chosen on validation, where there is one."""

    aggregation: str = "attention"
    temperature: float | None = None
    gate_temperature: float | None = None


@dataclass(frozen=True)
class HybridChoice:
    """large and small: keys of an encoder, and `finetuned` for a checkpoint. weight and top_k None: chosen on validation."""

    large: dict[str, Any]
    small: dict[str, Any]
    hybrid: str = "fusion"
    temperature: float | None = None
    weight: float | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class TwoStageChoice:
    """rerank: super-image, cell, or both with a comma between."""

    recall: str = "video"
    recall_k: int = 50
    rerank: str = "super-image"
    gate_temperature: float | None = None


@dataclass(frozen=True)
class StudyConfig:
    """What study.yaml says, crossed."""

    corpus: Material
    validation: Material | None
    query_format: str
    paragraphs: bool
    mv_edges: tuple[float, ...]
    encoders: tuple[EncoderOptions, ...]
    scorings: tuple[ScoringChoice, ...]
    finetuned: tuple[str, ...]
    hybrids: tuple[HybridChoice, ...]
    two_stage: tuple[TwoStageChoice, ...]


_ENTRIES = {kind: entry_model(kind) for kind in (EncoderOptions, ScoringChoice, HybridChoice, TwoStageChoice)}
_PICK = entry_model(EncoderOptions, finetuned=(str | None, None))


def load_study_config(path: str | Path) -> StudyConfig:
    """Raises ConfigError that names the file, the line and the key."""
    file = YamlFile(path)
    data = file.mapping(file.data, [], KEYS)
    encoders = tuple(
        EncoderOptions(
            **{**entry, "model": file.model(entry["model"]), "pretrained": file.checkpoint(entry["pretrained"])}
        )
        for entry in _crossed(file, data, "encoders", EncoderOptions)
    )
    if not encoders:
        raise file.error(["encoders"], "give a list of encoders")
    seen: set[EncoderOptions] = set()
    for encoder in encoders:
        if encoder in seen:
            raise file.error(["encoders"], f"twice the same: {encoder}")
        seen.add(encoder)
    scorings = tuple(ScoringChoice(**entry) for entry in _crossed(file, data, "scorings", ScoringChoice))
    hybrids = []
    for number, entry in _numbered(file, data, "hybrids", HybridChoice):
        for side in ("large", "small"):
            file.checked(_PICK, entry[side], ["hybrids", number, side])
            for name, located in (("finetuned", file.beside), ("model", file.model), ("pretrained", file.checkpoint)):
                if entry[side].get(name):
                    entry[side] = {**entry[side], name: located(entry[side][name])}
        hybrids.append(HybridChoice(**entry))
    return StudyConfig(
        corpus=_material(file, data, []),
        validation=_material(file, data["validation"], ["validation"]) if data.get("validation") is not None else None,
        query_format=_one_of(file, data, "format", FORMATS, "auto"),
        paragraphs=_flag(file, data, "paragraphs"),
        mv_edges=_edges(file, data),
        encoders=encoders,
        scorings=scorings or (ScoringChoice(),),
        finetuned=tuple(file.beside(folder) for folder in _strings(file, data, "finetuned")),
        hybrids=tuple(hybrids),
        two_stage=tuple(TwoStageChoice(**entry) for entry in _crossed(file, data, "two_stage", TwoStageChoice)),
    )


def _material(file: YamlFile, data: Any, keys: Keys) -> Material:
    if keys:
        file.mapping(data, keys, ("videos", "queries"))
    for name, what in (("videos", "a folder, a glob or a manifest"), ("queries", "a query file")):
        if not isinstance(data.get(name), str) or not data[name].strip():
            raise file.error([*keys, name], f"name {what}")
    return Material(file.beside(data["videos"]), Path(file.beside(data["queries"])))


def _crossed(file: YamlFile, data: dict[str, Any], key: str, kind: Any) -> Iterator[dict[str, Any]]:
    return (entry for _, entry in _numbered(file, data, key, kind))


def _numbered(file: YamlFile, data: dict[str, Any], key: str, kind: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """(its number, one crossing) of every entry under a key, with defaults filled in and types checked."""
    entries = data.get(key) or []
    if not isinstance(entries, list):
        raise file.error([key], f"give a list, not {entries!r}")
    for number, entry in enumerate(entries):
        file.mapping(entry, [key, number], _ENTRIES[kind].model_fields)
        lists = [value if isinstance(value, list) else [value] for value in entry.values()]
        for name, values in zip(entry, lists, strict=True):
            if not values:
                raise file.error([key, number, name], "an empty list crosses nothing")
        for crossed in itertools.product(*lists):
            yield number, file.checked(_ENTRIES[kind], dict(zip(entry, crossed, strict=True)), [key, number])


def _one_of(file: YamlFile, data: dict[str, Any], key: str, known: Any, default: str) -> str:
    value = data.get(key, default)
    if value not in known:
        raise file.error([key], f"choose one of {', '.join(known)}, not {value!r}")
    return str(value)


def _flag(file: YamlFile, data: dict[str, Any], key: str) -> bool:
    value = data.get(key, False)
    if not isinstance(value, bool):
        raise file.error([key], f"choose true or false, not {value!r}")
    return value


def _strings(file: YamlFile, data: dict[str, Any], key: str) -> list[str]:
    values = data.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise file.error([key], f"give a list of folders, not {values!r}")
    return values


def _edges(file: YamlFile, data: dict[str, Any]) -> tuple[float, ...]:
    edges = data.get("mv_edges", list(DEFAULT_MV_EDGES))
    if not isinstance(edges, list) or not all(isinstance(e, int | float) for e in edges):
        raise file.error(["mv_edges"], f"give a list of numbers, not {edges!r}")
    try:
        check_edges(edges)
    except QueryError as error:
        raise file.error(["mv_edges"], str(error)) from None
    return tuple(float(e) for e in edges)
