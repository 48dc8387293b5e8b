"""An index seen through a fine-tuned checkpoint."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qasir.errors import ModelError, QueryError
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import Checkpoint, load_checkpoint
from qasir.retrieval.vector_source import FeatureTable, VectorSource, VideoList


class TunedVectors:
    """Vectors of a source gone through the video side of a checkpoint, computed when they are loaded."""

    is_stored = False

    def __init__(self, source: VectorSource, checkpoint: Checkpoint) -> None:
        self.snapshot = source.snapshot
        self._source = source
        self._checkpoint = checkpoint

    def is_indexed(self) -> bool:
        return False  # a vector index is over the vectors as they are stored

    def videos(self) -> VideoList:
        return self._source.videos()

    def video_vectors(self) -> NDArray[np.float32]:
        return self.load().features.means

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        table = self._source.load(granularity, video_ids)
        if granularity == "cell":
            vectors = self._checkpoint.model.cell_vectors(table.features.vectors)
            return replace(table, features=replace(table.features, vectors=vectors))
        return replace(table, features=self._checkpoint.video_vectors(table.features))


def text_side(spec: EncoderSpec) -> Checkpoint | None:
    """The checkpoint that was applied to an index, for its queries. Raises ModelError when it is gone or another."""
    if not spec.finetuned:
        return None
    checkpoint = load_checkpoint(spec.finetuned)
    if checkpoint.weights != spec.finetuned_weights:
        raise ModelError(
            f"the fine-tuned checkpoint in {spec.finetuned} is not the one that made the index: {checkpoint.weights} "
            f"now, {spec.finetuned_weights} then; apply it again"
        )
    return checkpoint


def choose(checkpoints: Sequence[Checkpoint], specs: dict[str, EncoderSpec]) -> dict[str, Checkpoint]:
    """Which checkpoint goes with which index ({uri: spec}): the one trained on its encoder spec.

    Raises SpecError for a checkpoint that fits none, QueryError for two that fit one.
    """
    chosen: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        fitting = [uri for uri, spec in specs.items() if checkpoint.fits(spec)]
        if not fitting:
            for uri, spec in specs.items():
                checkpoint.check(spec, uri)
        for uri in fitting:
            if uri in chosen:
                raise QueryError(
                    f"two fine-tuned checkpoints fit the index at {uri}: {chosen[uri].folder} and {checkpoint.folder}"
                )
            chosen[uri] = checkpoint
    return chosen
