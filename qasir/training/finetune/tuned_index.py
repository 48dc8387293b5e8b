"""Writes an index once more with its vectors gone through a fine-tuned checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qasir.errors import SpecError
from qasir.index.finite import finite_rows
from qasir.index.index import Index, VideoState, embedding_column, embedding_names, now
from qasir.index.ragged import runs_of
from qasir.index.schemas import ENCODED
from qasir.index.snapshot import matrix
from qasir.index.spec import EncoderSpec
from qasir.index.writer import Writer
from qasir.retrieval.checkpoint import Checkpoint
from qasir.retrieval.vectors import Features, normalised
from qasir.video.video_file import modified_at

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

    A video with a vector that is not finite, which would spread over all of it, fails as `not_finite`.
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
        self.output = Index.open_or_new(output, spec, source.corpus_root, source.corpus_source)

    def run(
        self, writer: Writer, on_progress: Callable[[int, int], None] = lambda done, planned: None
    ) -> dict[str, int]:
        """Counts of applied, unchanged and removed videos, and of those that failed because what the checkpoint makes
        of them is not finite. writer: the output's; on_progress(done, planned) after each part."""
        rows = {row["video_id"]: row for row in self.snapshot.videos().to_pylist()}
        there = self.output.states()
        todo = sorted(
            video_id
            for video_id, row in rows.items()
            if video_id not in there
            or (there[video_id].fingerprint, there[video_id].status) != (row["fingerprint"], row["status"])
        )
        gone = sorted(set(there) - set(rows))
        is_new = set(todo)
        writer.mark_stale([r for v, r in rows.items() if v not in is_new and VideoState.of(r) != there[v]])
        n_failed = 0
        for low in range(0, len(todo), _VIDEOS_TOGETHER):
            some = todo[low : low + _VIDEOS_TOGETHER]
            parts = {video_id: rows[video_id] for video_id in some}
            n_failed += self._apply(writer, parts, replaced=[v for v in some if v in there])
            on_progress(low + len(some), len(todo))
        writer.remove(gone)
        return {
            "applied": len(todo) - n_failed, "unchanged": len(rows) - len(todo), "removed": len(gone),
            "failed": n_failed,
        }  # fmt: skip

    def _apply(self, writer: Writer, videos: dict[str, dict[str, Any]], replaced: Sequence[str]) -> int:
        """Write these videos; how many of them failed."""
        self._forget_parts(writer, videos)
        images = self.snapshot.super_images(video_ids=[v for v, row in videos.items() if row["status"] == ENCODED])
        means: dict[str, NDArray[np.float32]] = {}
        failed: set[str] = set()
        if len(images):
            images, means = self._tuned(images)
            failed = set(
                pc.unique(
                    images["video_id"].filter(pa.array(~finite_rows(images, embedding_names(self.output.spec))))
                ).to_pylist()
            )
            images = images.filter(pc.invert(pc.is_in(images["video_id"], pa.array(sorted(failed), pa.string()))))
            writer.commit_super_images(self.output.write_super_images(images) if len(images) else [])
        for video_id, row in videos.items():
            row |= {"encoded_at": now(), "modified_at": modified_at(row["fingerprint"])}
            if row["status"] == ENCODED and video_id not in failed:
                row["embedding"] = means[video_id].astype(np.float16) if video_id in means else row["embedding"]
        writer.upsert_videos([row for video_id, row in videos.items() if video_id not in failed])
        why = {"error_kind": "not_finite", "error": "the checkpoint gives NaN or infinite numbers for it"}
        writer.record_failures([{**videos[video_id], **why} for video_id in sorted(failed)])
        writer.delete_stale(
            {
                v: videos[v]["fingerprint"] if videos[v]["status"] == ENCODED else None
                for v in replaced
                if v not in failed
            }
        )
        return len(failed)

    def _forget_parts(self, writer: Writer, videos: dict[str, dict[str, Any]]) -> None:
        """Delete what a killed run wrote of these videos: nobody reads it, and it is about to be written."""
        positions, _ = self.output.leftovers({v: row["fingerprint"] for v, row in videos.items()})
        writer.delete_versions([(video_id, videos[video_id]["fingerprint"]) for video_id in sorted(positions)])

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
