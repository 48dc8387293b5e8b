"""Runs a study: every encoder's index, from one decode of the corpus or from features that others computed, then every
setting that has no result yet."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.study_sources import ON_RAY, Encoding, GivenFeatures, Source, Videos
from qasir.encoding.run import OnProgress, ignore
from qasir.errors import QasirError
from qasir.evaluation.evaluate import evaluate
from qasir.evaluation.joining import with_moments
from qasir.evaluation.query import Query, paragraphs
from qasir.evaluation.query_files import read_query_file
from qasir.evaluation.tuning import chosen
from qasir.evaluation.video_list import Listed, about, read_video_ids
from qasir.index.index import Index
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import Checkpoint, load_checkpoint
from qasir.retrieval.methods.method import Method
from qasir.retrieval.opening import searcher_of, text_encoder, together
from qasir.retrieval.searcher import Searcher
from qasir.retrieval.searcher import Side as SearcherSide
from qasir.study.config import Encoder, Material, StudyConfig
from qasir.study.results import Result, ResultFiles, digest, done, failed, write_tables
from qasir.study.settings import Setting, Side, settings
from qasir.vlm.model import Vlm

_TIMED_IMAGES = 16
_OPEN_SEARCHERS = 6
_OPEN_FEATURES = 2
"""Of imported features, which are a row a frame: two, since a hybrid has two."""


@dataclass(frozen=True)
class Step:
    """A setting that has its result now: its number from 1, of how many, and whether it was there already."""

    number: int
    planned: int
    result: Result
    was_there: bool


def run_study(
    config: StudyConfig,
    output: Path,
    *,
    encoding: Encoding = ON_RAY,
    on_encoding: OnProgress = ignore,
    on_step: Callable[[Step], None] = lambda step: None,
) -> list[Result]:
    """Every setting's result, in order; killed and run again, it goes on. Indexes, results and tables are in `output`.

    A setting that cannot be built is a result with a reason. Raises QasirError for what no setting can do without: the
    corpora and the query files.
    """
    tests = _searched(config, config.corpus, output, encoding)
    validation = None
    if config.validation is not None:
        validation = _searched(config, config.validation, output, encoding, validating=True)
    broken = tests.indexes.encode(config.encoders, on_encoding)
    if validation is not None:
        broken |= validation.indexes.encode([one for one in config.encoders if one not in broken], on_encoding)
    in_hybrids = [side.get("finetuned") for hybrid in config.hybrids for side in (hybrid.large, hybrid.small)]
    checkpoints = {folder: _checkpoint(folder) for folder in (*config.finetuned, *in_hybrids) if folder}
    planned = list(settings(config, checkpoints, lambda c, encoder: c.fits(tests.indexes.index(encoder).spec), broken))
    files = ResultFiles(output / "results")
    sides = SideFacts(tests.indexes)

    def evaluated(setting: Setting, facts: Mapping[str, Any]) -> Result:
        try:
            searcher, method = _method(setting, tests, validation)
            evaluation = evaluate(
                searcher, tests.queries, method, missing=config.missing, mv_edges=config.mv_edges, over_corpus=False
            )
        except QasirError as error:
            return failed(setting, str(error))
        result = done(setting, [sides.of(side) for side in (setting.side, setting.small) if side], evaluation)
        files.keep(setting, facts, result)
        return result

    results = []
    for number, setting in enumerate(planned, start=1):
        found = None
        if setting.reason:
            result = failed(setting, setting.reason)
        else:
            facts = _facts(config, setting, tests, validation, checkpoints)
            found = files.find(setting, facts)
            result = found or evaluated(setting, facts)
        results.append(result)
        on_step(Step(number, len(planned), result, found is not None))
    write_tables(output, results)
    return results


class Indexes:
    """The index of every encoder over one corpus, and searchers of them."""

    def __init__(self, material: Material, source: Source, name: str = "indexes") -> None:
        self.name = name
        self._source = source
        files = [material.queries] if material.video_ids is None else [material.queries, material.video_ids]
        self.queries_hash = "-".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        self._open: dict[Encoder, Index] = {}
        self._content: dict[Encoder, str] = {}
        self._searcher = lru_cache(_OPEN_SEARCHERS if material.videos is not None else _OPEN_FEATURES)(self._make)

    def encode(self, encoders: Sequence[Encoder], on_progress: OnProgress) -> dict[Encoder, str]:
        """Make or bring up to date every index; {encoder: why it cannot be built} for the others."""
        filled = self._source.fill(encoders, on_progress)
        self._open |= filled.indexes
        return filled.broken

    def index(self, encoder: Encoder) -> Index:
        return self._open[encoder]

    def searcher(self, side: Side) -> Searcher:
        """The side's index as it is now. Raises QasirError for a checkpoint that does not fit or cannot be read."""
        return self._searcher(side)

    def content(self, encoder: Encoder) -> str:
        """A hash of what the index held after `encode`, and of what becomes of queries' texts."""
        if encoder not in self._content:
            index = self.index(encoder)
            states = sorted((video_id, state.fingerprint, state.status) for video_id, state in index.states().items())
            self._content[encoder] = digest([index.spec.identity, states, *self._source.facts(encoder)])
        return self._content[encoder]

    def _make(self, side: Side) -> Searcher:
        index = self.index(side.encoder)
        finetuned = None if side.finetuned is None else load_checkpoint(side.finetuned)
        encode = self._source.encode(side.encoder, index)
        texts = None if encode is None else text_encoder(index.spec, finetuned, encode=encode)
        return searcher_of(index, finetuned=finetuned, texts=texts)


class SideFacts:
    """What an encoder turned out to be: sizes, parameters, super images of each video, and the model's seconds an
    image."""

    def __init__(self, indexes: Indexes) -> None:
        self.indexes = indexes
        self._of: dict[Side, dict[str, Any]] = {}

    def of(self, side: Side) -> Mapping[str, Any]:
        if side not in self._of:
            searcher = self.indexes.searcher(side)
            spec = searcher.side.index.spec
            known = {"embedding_dim": spec.embedding_dim, "images": searcher.videos().n_super_images}
            self._of[side] = known | (_not_encoded_here(spec) if spec.features else _encoded_here(searcher.side))
        return self._of[side]


def _encoded_here(side: SearcherSide) -> dict[str, Any]:
    spec, vlm = side.index.spec, side.texts.vlm()
    return {
        "image_size": spec.image_size, "precision": spec.precision, "pretrained": spec.pretrained,
        "fit": spec.fit, "max_gap_s": spec.max_gap_s or None,
        "seconds_an_image": _seconds_an_image(vlm),
        "parameters": sum(p.numel() for p in vlm.module.visual.parameters()),
    }  # fmt: skip


def _not_encoded_here(spec: EncoderSpec) -> dict[str, Any]:
    """Of features that others computed: no model was timed, and what they did is not known."""
    unknown = ("image_size", "precision", "fit", "max_gap_s", "seconds_an_image", "parameters")
    return {"pretrained": spec.pretrained or None, **dict.fromkeys(unknown)}


def _seconds_an_image(vlm: Vlm) -> float:
    """Of the image tower, alone, in a batch, after one batch to warm up."""
    pixels = np.zeros((_TIMED_IMAGES, vlm.image_size, vlm.image_size, 3), np.uint8)
    vlm.encode_images(pixels)
    since = time.perf_counter()
    vlm.encode_images(pixels)
    return (time.perf_counter() - since) / _TIMED_IMAGES


@dataclass(frozen=True)
class Searched:
    """A corpus and what is asked of it. listed: the videos that count; None for all."""

    indexes: Indexes
    queries: list[Query]
    listed: list[str] | None

    def searcher(self, setting: Setting) -> Searcher:
        """Of one encoder, or of the two of a hybrid, over the videos that count."""
        assert setting.side is not None
        found = self.indexes.searcher(setting.side)
        if setting.small is not None:
            found = together(found.side, self.indexes.searcher(setting.small).side)
        return found if self.listed is None else Listed.of(found, self.listed, n_others=0).searcher


def _searched(
    config: StudyConfig, material: Material, output: Path, encoding: Encoding, *, validating: bool = False
) -> Searched:
    """Nothing is encoded yet. Raises QasirError for query files and lists that cannot be used."""
    prefix = config.strip_prefix
    queries = read_query_file(material.queries, config.query_format, strip_prefix=prefix).queries
    if config.moments_from is not None:
        release = read_query_file(config.moments_from, config.moments_format, strip_prefix=prefix).queries
        queries = with_moments(queries, release, str(config.moments_from))
    if config.paragraphs:
        queries = paragraphs(queries)
    listed = None
    if material.video_ids is not None:
        listed = read_video_ids(material.video_ids, strip_prefix=prefix)
        queries = about(queries, listed)
    name = "validation_indexes" if validating else "indexes"
    source: Source
    if material.videos is None:
        source = GivenFeatures(queries, output / "indexes", validating=validating)
    else:
        source = Videos(material.videos, output / name, encoding)
    return Searched(Indexes(material, source, name), queries, listed)


def _checkpoint(folder: str) -> Checkpoint | str:
    try:
        return load_checkpoint(folder)
    except QasirError as error:
        return str(error)


def _method(setting: Setting, tests: Searched, validation: Searched | None) -> tuple[Searcher, Method]:
    """The setting's searcher and method, with what it leaves open chosen on validation."""
    searcher, choice = tests.searcher(setting), setting.choice
    method = choice.method([side.default for side in searcher.sides])
    if validation is not None:
        method = chosen(validation.searcher(setting), validation.queries, method, keep=choice.fixed())
    return searcher, method


def _facts(
    config: StudyConfig, setting: Setting, tests: Searched, validation: Searched | None,
    checkpoints: Mapping[str, Checkpoint | str],
) -> dict[str, Any]:  # fmt: skip
    """All that a result follows from, beside the setting."""
    sides = [side for side in (setting.side, setting.small) if side is not None]
    found: dict[str, Any] = {
        "format": config.query_format,
        "paragraphs": config.paragraphs,
        "mv_edges": config.mv_edges,
        **_reading(config),
    }
    for searched in (tests, validation):
        if searched is not None:
            indexes = searched.indexes
            found[indexes.name] = [indexes.queries_hash, *(indexes.content(side.encoder) for side in sides)]
    used = [None if side.finetuned is None else checkpoints[side.finetuned] for side in sides]
    found["finetuned"] = [one.weights if isinstance(one, Checkpoint) else one for one in used]
    return found


def _reading(config: StudyConfig) -> dict[str, Any]:
    """How queries are read and counted, where that is asked for: studies without go on with the results they have."""
    moments = None
    if config.moments_from is not None:
        moments = [config.moments_format, hashlib.sha256(config.moments_from.read_bytes()).hexdigest()]
    asked = {"strip_prefix": config.strip_prefix, "missing": config.missing, "moments": moments}
    return {name: value for name, value in asked.items() if value not in ("", "skip", None)}
