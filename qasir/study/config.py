"""Reads study.yaml: a corpus, its queries, and the settings to cross.

videos, queries, format, paragraphs: what is searched, and for what
mv_edges: edges of the bins of moment length over video length
validation: {videos, queries} where what a setting leaves open is chosen
encoders: entries as in corpus.yaml, without uri
scorings: entries of aggregation, temperature, gate_temperature, each for every encoder
finetuned: folders of checkpoints, each for the encoders it was trained on
hybrids: entries of hybrid, large, small, weight, top_k, where large and small pick an encoder by its keys
two_stage: entries of recall, recall_k, rerank, gate_temperature, each for every encoder

A list instead of a value stands for each of its values: lists of one entry are crossed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Len
from pydantic import AfterValidator, StringConstraints

from qasir.encoding.options import EncoderOptions
from qasir.errors import QueryError
from qasir.evaluation.metrics import DEFAULT_MV_EDGES, check_edges
from qasir.evaluation.query_formats import FORMATS
from qasir.files.credentials import without_credentials
from qasir.files.yaml_file import SomeOf, Wanted, YamlFile
from qasir.retrieval.methods.asked import asked
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.fusion import Fusion
from qasir.retrieval.methods.hybrid import Hybrid
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.named import argument_of, kind_of, pooled_numbers


def _checked_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"choose one of {', '.join(FORMATS)}, not {name!r}")
    return name


def _checked_edges(edges: tuple[float, ...]) -> tuple[float, ...]:
    try:
        check_edges(edges)
    except QueryError as error:
        raise ValueError(str(error)) from None
    return edges


Pick = Annotated[dict[str, Any], SomeOf(EncoderOptions, finetuned=str | None)]
Edges = Annotated[tuple[float, ...], Wanted("give a list of numbers"), AfterValidator(_checked_edges)]


@dataclass(frozen=True)
class Material:
    """A corpus and the file of its queries."""

    videos: str
    queries: Path


class _ByName:
    """A method of one index, by its name. What is None is the method's default, or chosen on validation, where there is
    one."""

    aggregation: str

    def fixed(self) -> dict[str, Any]:
        """{number of a method: its value} of what is not left open."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "aggregation"}  # type: ignore[arg-type]
        return {**_given(**numbers), **argument_of(self.aggregation)}

    def kind(self) -> str:
        """The kind of its method."""
        return kind_of(self.aggregation)

    def method(self, defaults: Sequence[Method]) -> Method:
        """The method. defaults: how each index is ranked with unless asked otherwise. Raises QueryError, SpecError."""
        return asked(defaults, self.aggregation, None, {name: (value,) for name, value in self.fixed().items()})


if TYPE_CHECKING:

    @dataclass(frozen=True)
    class ScoringChoice(_ByName):
        aggregation: str = Attention.name
        temperature: float | None = None
        gate_temperature: float | None = None

else:
    # Its keys are the numbers of the methods, as they are listed in the code.
    ScoringChoice = make_dataclass(
        "ScoringChoice",
        [
            ("aggregation", str, Attention.name),
            *((name, option.type | None, None) for name, option in pooled_numbers().items()),
        ],
        bases=(_ByName,),
        frozen=True,
    )


@dataclass(frozen=True)
class HybridChoice:
    """large and small: keys of an encoder, and `finetuned` for a checkpoint.

    weight and top_k None: chosen on validation.
    """

    large: Pick
    small: Pick
    hybrid: str = Fusion.name
    temperature: float | None = None
    weight: float | None = None
    top_k: int | None = None

    def fixed(self) -> dict[str, Any]:
        return _given(temperature=self.temperature, weight=self.weight, top_k=self.top_k)

    def kind(self) -> str:
        """The kind of its method."""
        return Hybrid.kind

    def method(self, defaults: Sequence[Method]) -> Method:
        return asked(defaults, None, self.hybrid, {name: (value,) for name, value in self.fixed().items()})


@dataclass(frozen=True)
class TwoStageChoice:
    """rerank: super-image, cell, or both with a comma between."""

    recall: str = CoarseToFine.recall
    recall_k: int = CoarseToFine.recall_k
    rerank: str = ",".join(CoarseToFine.rerank)
    gate_temperature: float | None = None

    def fixed(self) -> dict[str, Any]:
        parts = tuple(part.strip() for part in self.rerank.split(","))
        gate = _given(gate_temperature=self.gate_temperature)
        return {"recall": self.recall, "recall_k": self.recall_k, "rerank": parts, **gate}

    def kind(self) -> str:
        """The kind of its method."""
        return CoarseToFine.kind

    def method(self, defaults: Sequence[Method]) -> Method:
        return asked(defaults, CoarseToFine.name, None, {name: (value,) for name, value in self.fixed().items()})


def _given(**numbers: Any) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if value is not None}


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


_Place = Annotated[str, StringConstraints(pattern=r"\S"), AfterValidator(without_credentials)]


@dataclass(frozen=True)
class _Searched:
    """What is searched, and for what, as the file has it."""

    videos: Annotated[_Place, Wanted("name a folder, a glob or a manifest")]
    queries: Annotated[_Place, Wanted("name a query file")]


@dataclass(frozen=True, kw_only=True)
class _StudyFile(_Searched):
    """study.yaml, after its lists are crossed."""

    encoders: Annotated[tuple[EncoderOptions, ...], Len(1), Wanted("give a list of encoders")]
    validation: _Searched | None = None
    format: Annotated[str, AfterValidator(_checked_format)] = "auto"
    paragraphs: Annotated[bool, Wanted("choose true or false")] = False
    mv_edges: Edges = DEFAULT_MV_EDGES
    scorings: Annotated[tuple[ScoringChoice, ...] | None, Wanted("give a list of scorings")] = None
    finetuned: Annotated[tuple[str, ...] | None, Wanted("give a list of folders")] = None
    hybrids: Annotated[tuple[HybridChoice, ...] | None, Wanted("give a list of hybrids")] = None
    two_stage: Annotated[tuple[TwoStageChoice, ...] | None, Wanted("give a list of entries")] = None


def load_study_config(path: str | Path) -> StudyConfig:
    """Local paths made absolute. Raises ConfigError that names the file, the line and the key."""
    file = YamlFile(path)
    asked = file.checked(_StudyFile, crossed=True)
    encoders = tuple(
        replace(encoder, model=file.model(encoder.model), pretrained=file.checkpoint(encoder.pretrained))
        for encoder in asked.encoders
    )
    for number, encoder in enumerate(encoders):
        if encoder in encoders[:number]:
            raise file.error(["encoders"], f"twice the same: {encoder}")
    return StudyConfig(
        corpus=_material(file, asked),
        validation=_material(file, asked.validation) if asked.validation is not None else None,
        query_format=asked.format,
        paragraphs=asked.paragraphs,
        mv_edges=asked.mv_edges,
        encoders=encoders,
        scorings=asked.scorings or (ScoringChoice(),),
        finetuned=tuple(file.beside(folder) for folder in asked.finetuned or ()),
        hybrids=tuple(
            replace(hybrid, large=_located(file, hybrid.large), small=_located(file, hybrid.small))
            for hybrid in asked.hybrids or ()
        ),
        two_stage=asked.two_stage or (),
    )


def _material(file: YamlFile, searched: _Searched) -> Material:
    return Material(file.beside(searched.videos), Path(file.beside(searched.queries)))


def _located(file: YamlFile, pick: Pick) -> Pick:
    """What picks an encoder, with paths as `encoders` has them."""
    places = {"finetuned": file.beside, "model": file.model, "pretrained": file.checkpoint}
    return {name: places[name](value) if value and name in places else value for name, value in pick.items()}
