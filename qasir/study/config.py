"""Reads study.yaml: a corpus, its queries, and the settings to cross.

videos, queries, format, paragraphs: what is searched, and for what
strip_prefix, video_ids, missing, moments_from, moments_format: of the queries, as evaluate_retrieval.py has them
mv_edges: edges of the bins of moment length over video length
validation: {videos, queries, video_ids} where what a setting leaves open is chosen
encoders: entries as in corpus.yaml, without uri
scorings: entries of aggregation, temperature, gate_temperature, each for every encoder
finetuned: folders of checkpoints, each for the encoders it was trained on
hybrids: entries of hybrid, large, small, weight, top_k, where large and small pick an encoder by its keys
two_stage: entries of recall, recall_k, rerank, gate_temperature, each for every encoder

A study over features that others computed has, instead of videos,

features, query_features, query_key, query_pooling, text_projection, query_normalise: of frames and of queries
validation: {features, queries, query_features, video_ids}, of which features and query_features may be the study's
encoders: entries of what import_features.py takes; each may have features and query_features of its own

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
from qasir.evaluation.evaluate import Missing
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
from qasir.study.feature_encoder import QUERY_KEYS, FeatureEncoder


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


Encoder = EncoderOptions | FeatureEncoder
Pick = Annotated[dict[str, Any], SomeOf(EncoderOptions, finetuned=str | None)]
FeaturePick = Annotated[dict[str, Any], SomeOf(FeatureEncoder, finetuned=str | None)]
Edges = Annotated[tuple[float, ...], Wanted("give a list of numbers"), AfterValidator(_checked_edges)]


@dataclass(frozen=True)
class Material:
    """A corpus and the file of its queries. videos: None where encoders name the features that they are of; video_ids:
    a list of those that count, None for all."""

    videos: str | None
    queries: Path
    video_ids: Path | None = None


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
class _FeatureHybrid(HybridChoice):
    """The same, of encoders that are features."""

    large: FeaturePick
    small: FeaturePick


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
    """What study.yaml says, crossed. Encoders are all of one kind."""

    corpus: Material
    validation: Material | None
    query_format: str
    paragraphs: bool
    mv_edges: tuple[float, ...]
    encoders: tuple[Encoder, ...]
    scorings: tuple[ScoringChoice, ...]
    finetuned: tuple[str, ...]
    hybrids: tuple[HybridChoice, ...]
    two_stage: tuple[TwoStageChoice, ...]
    strip_prefix: str = ""
    missing: Missing = "skip"
    moments_from: Path | None = None
    moments_format: str = "auto"


_Place = Annotated[str, StringConstraints(pattern=r"\S"), AfterValidator(without_credentials)]


_Queries = Annotated[_Place, Wanted("name a query file")]
_Listed = Annotated[_Place | None, Wanted("name a list of videos, one id a line")]
_Features = Annotated[_Place, Wanted("name a file or a folder of features")]


@dataclass(frozen=True)
class _Searched:
    """What is searched, and for what, as the file has it."""

    videos: Annotated[_Place, Wanted("name a folder, a glob or a manifest")]
    queries: _Queries
    video_ids: _Listed = None


@dataclass(frozen=True)
class _SearchedFeatures:
    """The same of features. What is None is the study's, or each encoder's own."""

    queries: _Queries
    features: _Features | None = None
    query_features: _Features | None = None
    video_ids: _Listed = None


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """The keys that a study has whatever it is over."""

    format: Annotated[str, AfterValidator(_checked_format)] = "auto"
    paragraphs: Annotated[bool, Wanted("choose true or false")] = False
    strip_prefix: str = ""
    missing: Missing = "skip"
    moments_from: Annotated[_Place | None, Wanted("name the benchmark's own release")] = None
    moments_format: Annotated[str, AfterValidator(_checked_format)] = "auto"
    mv_edges: Edges = DEFAULT_MV_EDGES
    scorings: Annotated[tuple[ScoringChoice, ...] | None, Wanted("give a list of scorings")] = None
    finetuned: Annotated[tuple[str, ...] | None, Wanted("give a list of folders")] = None
    two_stage: Annotated[tuple[TwoStageChoice, ...] | None, Wanted("give a list of entries")] = None


@dataclass(frozen=True, kw_only=True)
class _StudyFile(_Settings, _Searched):
    """study.yaml, after its lists are crossed."""

    encoders: Annotated[tuple[EncoderOptions, ...], Len(1), Wanted("give a list of encoders")]
    validation: _Searched | None = None
    hybrids: Annotated[tuple[HybridChoice, ...] | None, Wanted("give a list of hybrids")] = None


@dataclass(frozen=True, kw_only=True)
class _FeatureStudyFile(_Settings, _SearchedFeatures):
    """study.yaml of a study over features, after its lists are crossed."""

    query_key: str | None = None
    query_pooling: str | None = None
    text_projection: str | None = None
    query_normalise: Annotated[bool | None, Wanted("choose true or false")] = None
    encoders: Annotated[tuple[FeatureEncoder, ...], Len(1), Wanted("give a list of encoders")]
    validation: _SearchedFeatures | None = None
    hybrids: Annotated[tuple[_FeatureHybrid, ...] | None, Wanted("give a list of hybrids")] = None


def load_study_config(path: str | Path) -> StudyConfig:
    """Local paths made absolute. Raises ConfigError that names the file, the line and the key."""
    file = YamlFile(path)
    asked: _StudyFile | _FeatureStudyFile
    encoders: tuple[Encoder, ...]
    if _is_over_features(file):
        asked = file.checked(_FeatureStudyFile, crossed=True)
        encoders = _feature_encoders(file, asked)
    else:
        asked = file.checked(_StudyFile, crossed=True)
        encoders = tuple(
            replace(encoder, model=file.model(encoder.model), pretrained=file.checkpoint(encoder.pretrained))
            for encoder in asked.encoders
        )
    for number, encoder in enumerate(encoders):
        if encoder in encoders[:number]:
            raise file.error(["encoders"], f"twice the same: {encoder}")
    _check_named(file, encoders)
    if asked.moments_from is None and asked.moments_format != "auto":
        raise file.error(["moments_format"], "it is the format of `moments_from`, which is not given")
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
        strip_prefix=asked.strip_prefix,
        missing=asked.missing,
        moments_from=_beside(file, asked.moments_from),
        moments_format=asked.moments_format,
    )


def _is_over_features(file: YamlFile) -> bool:
    """Raises ConfigError for a file that would be over both."""
    data = file.data if isinstance(file.data, dict) else {}
    own = [key for key in ("features", "query_features", *QUERY_KEYS) if key in data]
    if own and "videos" in data:
        raise file.error([own[0]], "a study is over videos or over features: leave out this key or `videos`")
    entries = data.get("encoders")
    in_encoders = isinstance(entries, list) and any(isinstance(one, dict) and "features" in one for one in entries)
    return "videos" not in data and (bool(own) or in_encoders)


def _feature_encoders(file: YamlFile, asked: _FeatureStudyFile) -> tuple[FeatureEncoder, ...]:
    """The encoders with all that the study leaves to them, or they to it."""
    encoders = []
    validation = asked.validation or _SearchedFeatures(asked.queries)
    for encoder in asked.encoders:
        features, texts = encoder.features or asked.features, encoder.query_features
        if features is None:
            raise file.error(["encoders"], "one has no `features`, and the study names none for all")
        own = {name: getattr(encoder, name) for name in QUERY_KEYS}
        if texts is None:  # then how they become vectors is said for all too
            own = {name: getattr(asked, name) if value is None else value for name, value in own.items()}
        projection = own["text_projection"]
        given = texts or asked.query_features
        if given is None and (idle := [name for name, value in own.items() if value is not None]):
            raise file.error(["encoders"], f"{idle[0]} says how `query_features` is read, which nothing names")
        encoders.append(
            replace(
                encoder,
                model=file.model(encoder.model),
                pretrained=file.checkpoint(encoder.pretrained),
                durations=_beside(file, encoder.durations),
                features=file.beside(features),
                validation_features=file.beside(
                    encoder.validation_features or encoder.features or validation.features or features
                ),
                query_features=_beside(file, given),
                validation_query_features=_beside(
                    file, encoder.validation_query_features or texts or validation.query_features or given
                ),
                **{**own, "text_projection": None if projection is None else file.model(projection)},
            )
        )
    return tuple(encoders)


def _check_named(file: YamlFile, encoders: Sequence[Encoder]) -> None:
    """Raises ConfigError for features that a study's results could not tell apart."""
    names = [encoder.named for encoder in encoders if isinstance(encoder, FeatureEncoder)]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise file.error(
                ["encoders"], f"two of other files are called {name[0]} alike: give each a `model` of its own"
            )


def _material(file: YamlFile, searched: _Searched | _SearchedFeatures) -> Material:
    videos = file.beside(searched.videos) if isinstance(searched, _Searched) else None
    return Material(videos, Path(file.beside(searched.queries)), _beside(file, searched.video_ids))


def _beside(file: YamlFile, place: str | Path | None) -> Path | None:
    return None if place is None else Path(file.beside(str(place)))


def _located(file: YamlFile, pick: Pick) -> Pick:
    """What picks an encoder, with paths as `encoders` has them."""
    places = {
        "finetuned": file.beside, "model": file.model, "pretrained": file.checkpoint, "text_projection": file.model,
        **dict.fromkeys(("features", "validation_features"), file.beside),
        **dict.fromkeys(
            ("durations", "query_features", "validation_query_features"), lambda place: _beside(file, place)
        ),
    }  # fmt: skip
    return {name: places[name](value) if value and name in places else value for name, value in pick.items()}
