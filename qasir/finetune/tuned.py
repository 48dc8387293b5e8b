"""An index seen through a fine-tuned checkpoint, on the fly or written once into a new index."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.errors import ModelError, NoIndexError, QueryError, SpecError
from qasir.features import Features, normalised
from qasir.finetune.checkpoint import Checkpoint, load_checkpoint
from qasir.index import Index, embedding_column, now
from qasir.snapshot import FeatureTable, Snapshot, VideoTable, matrix, runs_of
from qasir.spec import EncoderSpec
from qasir.sql import in_chunks, quote
from qasir.tables import ENCODED

_VIDEOS_TOGETHER = 256


class TunedSnapshot(Snapshot):
    """A snapshot whose vectors have gone through the video side of a checkpoint. What is loaded is computed then."""

    is_indexed = False  # a vector index is over the vectors as they are stored

    def __init__(self, base: Snapshot, checkpoint: Checkpoint) -> None:
        super().__init__(base.uri, base.spec, base.videos_dataset, base.images_dataset)
        self._checkpoint = checkpoint

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        table = super().load(granularity, video_ids)
        if granularity == "cell":
            vectors = self._checkpoint.model.cell_vectors(table.features.vectors)
            return replace(table, features=replace(table.features, vectors=vectors))
        return replace(table, features=self._checkpoint.video_vectors(table.features))

    def load_videos(self) -> VideoTable:
        videos, images = super().load_videos(), self.load()
        if videos.video_ids != images.video_ids:
            raise NoIndexError(f"{self.uri}: some encoded videos have no super images; encode the corpus again")
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


def applied_spec(spec: EncoderSpec, checkpoint: Checkpoint) -> EncoderSpec:
    """The spec of an index that a checkpoint was applied to."""
    return replace(
        spec,
        finetuned=str(checkpoint.folder),
        finetuned_weights=checkpoint.weights,
        gates=checkpoint.gates,
    )


class Applying:
    """Applies the video side of a checkpoint over an index into another, a part of the videos at a time.

    Only what the output lacks is computed: run again, it goes on, follows changes and removes what is gone. Readers of the
    output see a video's old rows or its new ones.
    """

    def __init__(self, source: Index, checkpoint: Checkpoint, output: str) -> None:
        if source.spec.finetuned:
            raise SpecError(
                f"the index at {source.uri} is fine-tuned already: apply the checkpoint to the index it came from"
            )
        checkpoint.check(source.spec, source.uri)
        self.checkpoint = checkpoint
        self.snapshot = source.snapshot()
        spec = applied_spec(source.spec, checkpoint)
        self.output = Index.open_or_create(output, spec, source.corpus_root, source.corpus_source)

    def run(self, on_progress: Callable[[int, int], None] = lambda done, planned: None) -> dict[str, int]:
        """Counts of applied, unchanged and removed videos. on_progress(done, planned) after each part."""
        rows = {row["video_id"]: row for row in self.snapshot.videos().to_pylist()}
        there = self.output.states()
        todo = sorted(
            video_id
            for video_id, row in rows.items()
            if video_id not in there
            or (there[video_id].fingerprint, there[video_id].status) != (row["fingerprint"], row["status"])
        )
        gone = sorted(set(there) - set(rows))
        for low in range(0, len(todo), _VIDEOS_TOGETHER):
            some = todo[low : low + _VIDEOS_TOGETHER]
            self._apply({video_id: rows[video_id] for video_id in some}, replaced=[v for v in some if v in there])
            on_progress(low + len(some), len(todo))
        self.output.remove(gone)
        return {"applied": len(todo), "unchanged": len(rows) - len(todo), "removed": len(gone)}

    def _apply(self, videos: dict[str, dict[str, Any]], replaced: Sequence[str]) -> None:
        self._forget_parts(videos)
        images = self.snapshot.super_images(video_ids=[v for v, row in videos.items() if row["status"] == ENCODED])
        means: dict[str, NDArray[np.float32]] = {}
        if len(images):
            images, means = self._tuned(images)
            self.output.commit_super_images(self.output.write_super_images(images))
        for video_id, row in videos.items():
            row["encoded_at"] = now()
            if row["status"] == ENCODED:
                row["embedding"] = means[video_id].astype(np.float16) if video_id in means else row["embedding"]
        self.output.upsert_videos(list(videos.values()))
        self.output.delete_stale(
            {v: videos[v]["fingerprint"] if videos[v]["status"] == ENCODED else None for v in replaced}
        )

    def _forget_parts(self, videos: dict[str, dict[str, Any]]) -> None:
        """Delete what a killed run wrote of these videos: nobody reads it, and it is about to be written."""
        positions, _ = self.output.leftovers({v: row["fingerprint"] for v, row in videos.items()})
        for ids in in_chunks(sorted(positions)):
            names = " OR ".join(
                f"(video_id = {quote(v)} AND fingerprint = {quote(videos[v]['fingerprint'])})" for v in ids
            )
            self.output.table("super_images").delete(names)

    def _tuned(self, rows: pa.Table) -> tuple[pa.Table, dict[str, NDArray[np.float32]]]:
        """(rows with their vectors gone through the video side, {video_id: mean of its super images})."""
        dim = self.output.spec.embedding_dim
        ids, first, length = runs_of(rows["video_id"])
        tuned = self.checkpoint.video_vectors(Features(first, length, normalised(matrix(rows["embedding"], dim))))
        rows = _with(rows, "embedding", tuned.vectors)
        if self.output.spec.gates:
            assert tuned.gates is not None
            rows = rows.append_column("gate_embedding", embedding_column(tuned.gates))
        if self.output.spec.cells:
            n_cells = self.output.spec.frames_per_super_image
            cells = normalised(matrix(rows["cell_embeddings"], n_cells * dim).reshape(-1, dim))
            rows = _with(rows, "cell_embeddings", self.checkpoint.model.cell_vectors(cells).reshape(-1, n_cells * dim))
        sums = np.add.reduceat(tuned.vectors, first, axis=0) / length[:, None]
        return rows, dict(zip(ids, sums, strict=True))


def _with(rows: pa.Table, name: str, values: NDArray[np.float32]) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, embedding_column(values))


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
