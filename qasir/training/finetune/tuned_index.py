"""Writes an index once more with its vectors gone through a fine-tuned checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.errors import SpecError
from qasir.index.filters import in_chunks, quote
from qasir.index.index import Index, embedding_column, now
from qasir.index.ragged import runs_of
from qasir.index.schemas import ENCODED
from qasir.index.snapshot import matrix
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import Checkpoint
from qasir.retrieval.vectors import Features, normalised
from qasir.training.finetune.examples import check_rows

_VIDEOS_TOGETHER = 256


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

    A vector that is not finite would spread over its video: it is an UnreadableIndexError that names its super image.
    Only what the output lacks is computed: run again, it goes on, follows changes and removes what is gone. Readers of
    the output see a video's old rows or its new ones.
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
        columns = ["embedding", *(["cell_embeddings"] if self.output.spec.cells else [])]
        check_rows(rows, columns, self.snapshot)
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
