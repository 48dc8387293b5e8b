"""What a fine-tuning is about: two indexes with the queries about their videos, made into what every worker needs."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qasir.errors import SpecError
from qasir.evaluation.evaluate import answerable
from qasir.evaluation.metrics import right_ranks, summarise
from qasir.evaluation.query import Query, fingerprint
from qasir.index.spec import EncoderSpec
from qasir.retrieval.modules import FineTuned
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.scoring import score
from qasir.retrieval.searcher import Searcher
from qasir.retrieval.vectors import Features
from qasir.training.finetune.examples import Pairs, VideoRows, check_numbers, settled_batch_size
from qasir.training.finetune.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """An index and the queries about its videos. texts_from: how the queries' vectors came about, where that was not by
    the index's text tower."""

    searcher: Searcher
    queries: list[Query]
    texts_from: str = ""

    @classmethod
    def of(cls, searcher: Searcher, queries: Sequence[Query], texts_from: str = "") -> "Split":
        """Raises QueryError when no query is about a video of the index, NoIndexError when it has none."""
        found, lost = answerable(searcher, queries)
        if lost:
            log.warning(
                "%d of %d queries are about videos that are not in the index at %s, %s first: left out",
                len(lost), len(queries), searcher.side.index.uri, lost[0].video_id,
            )  # fmt: skip
        return cls(searcher, found, texts_from)

    def texts(self) -> NDArray[np.float32]:
        """(Q, D)."""
        return self.searcher.encode([query.text for query in self.queries])


@dataclass(frozen=True)
class Validation:
    """Queries against videos that were not trained on. texts (Q, D); right: the numbers of each query's videos."""

    texts: NDArray[np.float32]
    features: Features
    right: list[list[int]]

    @classmethod
    def of(cls, split: Split) -> "Validation":
        place = split.searcher.videos().place
        right = [[place[video_id] for video_id in query.video_ids] for query in split.queries]
        return cls(split.texts(), split.searcher.side.vectors.load().features, right)

    def metrics(self, model: FineTuned, recipe: Recipe) -> dict[str, float]:
        """Those of `qasir.evaluation.metrics.summarise`, scored as the recipe says."""
        values = score(model.query_vectors(self.texts), model.video_vectors(self.features), recipe.scoring)
        return summarise(right_ranks(values, self.right))


@dataclass(frozen=True)
class Task:
    """All that a worker needs. batch_size: what the data allows of the settings'; source: where videos' vectors are
    read; asked: what must be the same for a training to go on."""

    settings: Settings
    batch_size: int
    pairs: Pairs
    validation: Validation
    source: VideoRows
    spec: EncoderSpec
    asked: dict[str, Any]

    @classmethod
    def of(cls, train: Split, validation: Split, settings: Settings, workers: int = 1) -> "Task":
        """Raises SpecError when the two indexes differ in encoder spec or the settings cannot be built for it,
        QueryError where there is too little to tell apart, UnreadableIndexError for numbers in a table that are not
        finite."""
        spec = train.searcher.side.index.spec
        FineTuned(spec.embedding_dim, settings.architecture)  # refuses what cannot be built, before any work
        _check_specs(train.searcher, validation.searcher)
        cells = settings.recipe.name == "eercf"
        for split in (train, validation):
            check_numbers(split.searcher.side.snapshot, cells=cells)
        pairs = Pairs.of(train.searcher.side.snapshot, train.queries, train.texts())
        batch_size = settled_batch_size(settings.batch_size, len(train.queries), workers)
        asked = {**asdict(settings), "batch_size": batch_size, "workers": workers}
        for name, split in (("train", train), ("validation", validation)):
            asked[f"{name}_index"] = split.searcher.side.index.uri
            asked[f"{name}_versions"] = split.searcher.side.snapshot.images_dataset.version
            asked[f"{name}_queries"] = len(split.queries)
            asked[f"{name}_queries_sha256"] = fingerprint(split.queries)
            if split.texts_from:
                asked[f"{name}_query_features"] = split.texts_from
        source = VideoRows.of(train.searcher.side.snapshot, cells=cells)
        return cls(settings, batch_size, pairs, Validation.of(validation), source, spec, asked)


def _check_specs(train: Searcher, validation: Searcher) -> None:
    differences = train.side.index.spec.differences(validation.side.index.spec)
    differences.pop("colour", None)  # the same for footage of the standard range, and an older index cannot have it
    if differences:
        lines = [
            f"  {name}: {ours} to train on, {theirs} to validate on" for name, (ours, theirs) in differences.items()
        ]
        raise SpecError(
            f"{train.side.index.uri} and {validation.side.index.uri} have different encoder specs:\n" + "\n".join(lines)
        )
