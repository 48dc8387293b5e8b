"""An index seen through a fine-tuned checkpoint."""

from collections.abc import Sequence
from dataclasses import replace

from qasir.errors import ModelError, NoIndexError, QueryError
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import Checkpoint, load_checkpoint
from qasir.retrieval.vector_source import FeatureTable, StoredVectors, VideoTable

_VIDEOS_TOGETHER = 256


class TunedVectors:
    """Vectors of a snapshot gone through the video side of a checkpoint. What is loaded is computed then."""

    is_indexed = False  # a vector index is over the vectors as they are stored

    def __init__(self, stored: StoredVectors, checkpoint: Checkpoint) -> None:
        self.snapshot = stored.snapshot
        self._stored = stored
        self._checkpoint = checkpoint

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        table = self._stored.load(granularity, video_ids)
        if granularity == "cell":
            vectors = self._checkpoint.model.cell_vectors(table.features.vectors)
            return replace(table, features=replace(table.features, vectors=vectors))
        return replace(table, features=self._checkpoint.video_vectors(table.features))

    def videos(self) -> VideoTable:
        videos, images = self._stored.videos(), self.load()
        if videos.video_ids != images.video_ids:
            raise NoIndexError(
                f"{self.snapshot.uri}: some encoded videos have no super images; encode the corpus again"
            )
        return replace(videos, vectors=images.features.means)


def text_side(spec: EncoderSpec) -> Checkpoint | None:
    """The checkpoint that was applied to an index, for its queries. Raises ModelError when it is gone or another."""
    if not spec.finetuned:
        return None
    checkpoint = load_checkpoint(spec.finetuned)
    if checkpoint.weights != spec.finetuned_weights:
        raise ModelError(
            f"the fine-tuned checkpoint in {spec.finetuned} is not the one that made the index: {checkpoint.weights} now, "
            f"{spec.finetuned_weights} then; apply it again"
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
