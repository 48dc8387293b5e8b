"""Runs a study: every encoder's index from one decode of the corpus, then every setting that has no result yet."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines.cluster import encoder_device
from pipelines.encode import encode_corpus
from qasir.encoding.models import Target
from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.encoding.run import OnProgress, ignore
from qasir.errors import QasirError
from qasir.evaluation.evaluate import evaluate
from qasir.evaluation.query import Query, paragraphs
from qasir.evaluation.query_files import read_queries
from qasir.evaluation.tuning import chosen
from qasir.index.index import Index
from qasir.retrieval.checkpoint import Checkpoint, load_checkpoint
from qasir.retrieval.methods.method import Method
from qasir.retrieval.opening import searcher_of, together
from qasir.retrieval.searcher import Searcher
from qasir.study.config import Material, StudyConfig
from qasir.study.results import Result, ResultFiles, digest, done, failed, write_tables
from qasir.study.settings import SAMPLING, Setting, Side, settings
from qasir.video.corpus import Corpus, list_videos
from qasir.vlm.model import Vlm

_TIMED_IMAGES = 16
_OPEN_SEARCHERS = 6


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
    asked = _queries(config, config.corpus)
    tests = Indexes(config.corpus, output / "indexes", encoding)
    validation, tuning = None, []
    if config.validation is not None:
        tuning = _queries(config, config.validation)
        validation = Indexes(config.validation, output / "validation_indexes", encoding)
    broken = tests.encode(config.encoders, on_encoding)
    if validation is not None:
        broken |= validation.encode([one for one in config.encoders if one not in broken], on_encoding)
    in_hybrids = [side.get("finetuned") for hybrid in config.hybrids for side in (hybrid.large, hybrid.small)]
    checkpoints = {folder: _checkpoint(folder) for folder in (*config.finetuned, *in_hybrids) if folder}
    planned = list(settings(config, checkpoints, lambda c, encoder: c.fits(tests.index(encoder).spec), broken))
    files = ResultFiles(output / "results")
    sides = SideFacts(tests)

    def evaluated(setting: Setting, facts: Mapping[str, Any]) -> Result:
        try:
            searcher, method = _method(setting, tests, validation, tuning)
            evaluation = evaluate(searcher, asked, method, mv_edges=config.mv_edges, over_corpus=False)
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

    def __init__(self, material: Material, folder: Path, encoding: Encoding) -> None:
        self.material = material
        self._encoding = encoding
        self.folder = folder
        self.queries_hash = hashlib.sha256(material.queries.read_bytes()).hexdigest()
        self._open: dict[EncoderOptions, Index] = {}
        self._content: dict[EncoderOptions, str] = {}
        self._searcher = lru_cache(_OPEN_SEARCHERS)(self._make)

    def encode(self, encoders: Sequence[EncoderOptions], on_progress: OnProgress) -> dict[EncoderOptions, str]:
        """Make or bring up to date every index, decoding each video once; {encoder: why it cannot be built} for the
        others."""
        corpus = list_videos(self.material.videos)
        broken: dict[EncoderOptions, str] = {}
        targets = []
        for encoder in encoders:
            try:
                index, source = prepare(encoder, self._uri(encoder), corpus, device_type=self._encoding.device)
            except QasirError as error:
                broken[encoder] = str(error)
                continue
            self._open[encoder] = index
            targets.append(Target(index, source))
        self._encoding.run(corpus, targets, job="run_study", on_progress=on_progress)
        return broken

    def index(self, encoder: EncoderOptions) -> Index:
        return self._open[encoder]

    def searcher(self, side: Side) -> Searcher:
        """The side's index as it is now. Raises QasirError for a checkpoint that does not fit or cannot be read."""
        return self._searcher(side)

    def content(self, encoder: EncoderOptions) -> str:
        """A hash of what the index held after `encode`."""
        if encoder not in self._content:
            index = self.index(encoder)
            states = sorted((video_id, state.fingerprint, state.status) for video_id, state in index.states().items())
            self._content[encoder] = digest([index.spec.identity, states])
        return self._content[encoder]

    def _make(self, side: Side) -> Searcher:
        finetuned = None if side.finetuned is None else load_checkpoint(side.finetuned)
        return searcher_of(self.index(side.encoder), finetuned=finetuned)

    def _uri(self, encoder: EncoderOptions) -> str:
        return str(self.folder / folder_name(encoder))


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


class SideFacts:
    """What an encoder turned out to be: sizes, parameters, super images of each video, and the model's seconds an
    image."""

    def __init__(self, indexes: Indexes) -> None:
        self.indexes = indexes
        self._of: dict[Side, dict[str, Any]] = {}

    def of(self, side: Side) -> Mapping[str, Any]:
        if side not in self._of:
            searcher = self.indexes.searcher(side)
            spec, vlm = searcher.side.index.spec, searcher.side.texts.vlm()
            self._of[side] = {
                "image_size": spec.image_size, "precision": spec.precision, "pretrained": spec.pretrained,
                "fit": spec.fit, "max_gap_s": spec.max_gap_s or None,
                "embedding_dim": spec.embedding_dim, "images": searcher.videos().n_super_images,
                "seconds_an_image": _seconds_an_image(vlm),
                "parameters": sum(p.numel() for p in vlm.module.visual.parameters()),
            }  # fmt: skip
        return self._of[side]


def _seconds_an_image(vlm: Vlm) -> float:
    """Of the image tower, alone, in a batch, after one batch to warm up."""
    pixels = np.zeros((_TIMED_IMAGES, vlm.image_size, vlm.image_size, 3), np.uint8)
    vlm.encode_images(pixels)
    since = time.perf_counter()
    vlm.encode_images(pixels)
    return (time.perf_counter() - since) / _TIMED_IMAGES


def _queries(config: StudyConfig, material: Material) -> list[Query]:
    queries = read_queries(material.queries, config.query_format)
    return paragraphs(queries) if config.paragraphs else queries


def _checkpoint(folder: str) -> Checkpoint | str:
    try:
        return load_checkpoint(folder)
    except QasirError as error:
        return str(error)


def _method(
    setting: Setting, tests: Indexes, validation: Indexes | None, tuning: Sequence[Query]
) -> tuple[Searcher, Method]:
    """The setting's searcher and method, with what it leaves open chosen on validation."""
    searcher, choice = _searcher(setting, tests), setting.choice
    method = choice.method([side.default for side in searcher.sides])
    if validation is not None:
        method = chosen(_searcher(setting, validation), tuning, method, keep=choice.fixed())
    return searcher, method


def _searcher(setting: Setting, indexes: Indexes) -> Searcher:
    assert setting.side is not None
    searcher = indexes.searcher(setting.side)
    return searcher if setting.small is None else together(searcher.side, indexes.searcher(setting.small).side)


def _facts(
    config: StudyConfig, setting: Setting, tests: Indexes, validation: Indexes | None,
    checkpoints: Mapping[str, Checkpoint | str],
) -> dict[str, Any]:  # fmt: skip
    """All that a result follows from, beside the setting."""
    sides = [side for side in (setting.side, setting.small) if side is not None]
    found: dict[str, Any] = {
        "format": config.query_format,
        "paragraphs": config.paragraphs,
        "mv_edges": config.mv_edges,
    }
    for indexes in (tests, validation):
        if indexes is not None:
            found[indexes.folder.name] = [indexes.queries_hash, *(indexes.content(side.encoder) for side in sides)]
    used = [None if side.finetuned is None else checkpoints[side.finetuned] for side in sides]
    found["finetuned"] = [one.weights if isinstance(one, Checkpoint) else one for one in used]
    return found
