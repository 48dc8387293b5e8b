"""Where the indexes of a study come from: videos that are encoded for it, or features that others computed."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from pipelines.cluster import encoder_device
from pipelines.encode import encode_corpus
from pipelines.import_features import import_features
from qasir.encoding.feature_corpus import FeatureCorpus
from qasir.encoding.import_options import ImportOptions
from qasir.encoding.models import Target
from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.encoding.prepare_import import prepare_import
from qasir.encoding.run import OnProgress
from qasir.errors import QasirError
from qasir.evaluation.query import Query
from qasir.index.index import Index
from qasir.retrieval.query_features import EncodeGiven, QueryFeatureOptions, QueryFeatures
from qasir.retrieval.text_encoder import Encode
from qasir.study.config import Encoder
from qasir.study.feature_encoder import FeatureEncoder
from qasir.study.settings import SAMPLING
from qasir.video.corpus import Corpus, list_videos

JOB = "run_study"


class EncodeCorpus(Protocol):
    """What brings indexes up to date with a corpus, as `pipelines.encode.encode_corpus` does on Ray."""

    def __call__(self, corpus: Corpus, targets: Sequence[Target], *, job: str, on_progress: OnProgress) -> Any: ...


@dataclass(frozen=True)
class Encoding:
    """What encodes the corpora, and the device that it does it on, "cuda" or "cpu"."""

    run: EncodeCorpus
    device: Callable[[], str]


ON_RAY = Encoding(encode_corpus, lambda: encoder_device(None))


@dataclass(frozen=True)
class Filled:
    """The indexes of encoders, brought up to date, and of the others why they cannot be built."""

    indexes: dict[Encoder, Index]
    broken: dict[Encoder, str]


class Source(Protocol):
    """One corpus, and how queries become vectors for the indexes of it."""

    def fill(self, encoders: Sequence[Encoder], on_progress: OnProgress) -> Filled: ...

    def encode(self, encoder: Encoder, index: Index) -> Encode | None:
        """What encodes texts; None for the text tower of the index's model."""
        ...

    def facts(self, encoder: Encoder) -> list[str]:
        """What queries' vectors follow from, beside the index and their texts."""
        ...


class Videos:
    """Videos, each decoded once for all encoders. folder: of the indexes."""

    def __init__(self, videos: str, folder: Path, encoding: Encoding) -> None:
        self._videos = videos
        self._folder = folder
        self._encoding = encoding

    def fill(self, encoders: Sequence[Encoder], on_progress: OnProgress) -> Filled:
        corpus = list_videos(self._videos)
        filled = Filled({}, {})
        targets = []
        for encoder in encoders:
            assert isinstance(encoder, EncoderOptions)
            uri = str(self._folder / folder_name(encoder))
            try:
                index, source = prepare(encoder, uri, corpus, device_type=self._encoding.device)
            except QasirError as error:
                filled.broken[encoder] = str(error)
                continue
            filled.indexes[encoder] = index
            targets.append(Target(index, source))
        self._encoding.run(corpus, targets, job=JOB, on_progress=on_progress)
        return filled

    def encode(self, encoder: Encoder, index: Index) -> Encode | None:
        return None

    def facts(self, encoder: Encoder) -> list[str]:
        return []


class GivenFeatures:
    """Features of frames and of queries. folder: of the indexes, one for all encoders that read frames alike, of the
    test and of validation; queries: all that are asked."""

    def __init__(self, queries: Sequence[Query], folder: Path, *, validating: bool) -> None:
        self._named = [(query.query_id, query.text) for query in queries]
        self._folder = folder
        self._validating = validating
        self._opened: dict[QueryFeatureOptions, QueryFeatures] = {}

    def fill(self, encoders: Sequence[Encoder], on_progress: OnProgress) -> Filled:
        filled = Filled({}, {})
        done: dict[Path, Index] = {}
        for encoder in encoders:
            assert isinstance(encoder, FeatureEncoder)
            path = encoder.frames(validating=self._validating)
            uri = self._folder / features_folder_name(encoder, path)
            try:
                if uri not in done:
                    features = FeatureCorpus(path, encoder)
                    done[uri] = prepare_import(features, str(uri))
                    import_features(features, done[uri], job=JOB, on_progress=on_progress)
                self._check(encoder, done[uri])
            except QasirError as error:
                filled.broken[encoder] = str(error)
            else:
                filled.indexes[encoder] = done[uri]
        return filled

    def encode(self, encoder: Encoder, index: Index) -> Encode | None:
        features = self._queries(encoder)
        return None if features is None else EncodeGiven(features, self._named, index.spec.embedding_dim)

    def facts(self, encoder: Encoder) -> list[str]:
        features = self._queries(encoder)
        return [] if features is None else [features.version]

    def _queries(self, encoder: Encoder) -> QueryFeatures | None:
        assert isinstance(encoder, FeatureEncoder)
        options = encoder.queries(validating=self._validating)
        if options.query_features is None:
            return None
        if options not in self._opened:
            self._opened[options] = QueryFeatures(options.query_features, options)
        return self._opened[options]

    def _check(self, encoder: Encoder, index: Index) -> None:
        """Raises QasirError where queries cannot become vectors."""
        features = self._queries(encoder)
        if features is not None:
            features.check([query_id for query_id, _ in self._named])


def folder_name(encoder: EncoderOptions) -> str:
    """Of an encoder's index: one that says what it is, and no two encoders share."""
    size = f"_{encoder.image_size}px" if encoder.image_size else ""
    name = encoder.model.rsplit("/", 1)[-1].replace(":", "_")
    keyframes = "_keyframes" if encoder.sampling == "keyframes" else ""
    digest = hashlib.sha256(_told(encoder).encode()).hexdigest()[:8]
    return f"{name}_n{encoder.grid}{size}_{encoder.fps:g}fps{keyframes}_{digest}"


def _told(encoder: EncoderOptions) -> str:
    """An encoder as it says itself; one that samples evenly as it did before there was another way, so that a study
    finds the indexes it made then."""
    left_out = SAMPLING if encoder.sampling == "uniform" else ()
    values = [f"{f.name}={getattr(encoder, f.name)!r}" for f in fields(EncoderOptions) if f.name not in left_out]
    return f"{type(encoder).__name__}({', '.join(values)})"


def features_folder_name(encoder: FeatureEncoder, path: str) -> str:
    """The same of features at a path, whatever becomes of queries."""
    told = repr((path, *(getattr(encoder, field.name) for field in fields(ImportOptions))))
    name = re.sub(r"[^\w.-]+", "_", encoder.model)[:60]
    return f"{name}_n{encoder.grid}_features_{hashlib.sha256(told.encode()).hexdigest()[:8]}"
