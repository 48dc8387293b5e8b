"""Made-up indexes for tests of retrieval, without videos or models."""

from contextlib import contextmanager

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qasir.index.index import Index, embedding_column, now
from qasir.index.lease import Run
from qasir.index.spec import EncoderSpec

DIM = 16


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@contextmanager
def writing(index):
    """The writer of a run that holds the index meanwhile."""
    with Run(index, "test") as run:
        yield run.writer


def new_index(uri, spec, root="/videos", source=""):
    """An empty index."""
    index = Index.open_or_new(str(uri), spec, root, source)
    with writing(index):
        return index


def keyframe_s(sample):
    """The time of a sample of a made-up index of keyframes: 0, 1.5, 2, 3.5, 4, ..."""
    return sample + 0.5 * (sample % 2)


def make_index(
    uri, lengths, *, seed=0, grid=2, cells=True, dim=DIM, prefix="v", commits=1, failed=(), sampling="uniform",
    timed=True,
):  # fmt: skip
    """An index whose video v has lengths[v] random super images, the last with one blank cell, committed in parts.

    sampling: a sample each second, or those of `keyframe_s`; timed: whether rows tell their cells' times, as those of
    older libraries do not.
    """
    rng = np.random.default_rng(seed)
    spec = EncoderSpec(
        "qasir-tiny", "packaged", "made up", grid=grid, image_size=144, fps=1.0, embedding_dim=dim, precision="fp32",
        cells=cells, thumbnails=False, sampling=sampling, max_gap_s=4.0 * (sampling == "keyframes"),
    )  # fmt: skip
    time = keyframe_s if sampling == "keyframes" else float
    index = Index.open_or_new(str(uri), spec, "/made-up")
    videos, images = [], []
    for v, length in enumerate(lengths):
        vectors = unit(rng.standard_normal((length, dim)))
        for position in range(length):
            n_valid = max(1, grid**2 - (position == length - 1))
            first = position * grid**2
            times = [time(first + cell) for cell in range(n_valid)]
            images.append(
                {
                    "video_id": f"{prefix}{v:03}", "fingerprint": "f", "position": position,
                    "start_s": times[0], "end_s": time(first + n_valid), "n_valid": n_valid,
                    "cell_s": times if timed else None, "embedding": vectors[position],
                    "cells": unit(vectors[position] + 0.3 * rng.standard_normal((grid**2, dim))).ravel(),
                }
            )  # fmt: skip
        videos.append(
            {
                "video_id": f"{prefix}{v:03}", "uri": f"{v}", "fingerprint": "f", "status": "encoded", "codec": "h264",
                "n_super_images": length, "duration_s": images[-1]["end_s"], "encoded_at": now(),
                "embedding": vectors.mean(axis=0).astype(np.float16),
            }
        )  # fmt: skip
    videos += [
        {
            "video_id": name, "uri": name, "fingerprint": "f", "status": "failed", "error_kind": "decode",
            "error": "cut", "encoded_at": now(),
        }
        for name in failed
    ]  # fmt: skip
    with writing(index) as writer:
        for part in np.array_split(np.arange(len(images)), commits):
            rows = [images[i] for i in part]
            columns = {name: [row[name] for row in rows] for name in rows[0] if name not in ("embedding", "cells")}
            columns["position"] = pa.array(columns["position"], pa.int32())
            columns["cell_s"] = pa.array(columns["cell_s"], pa.list_(pa.float64()))
            columns["embedding"] = embedding_column(np.stack([row["embedding"] for row in rows]))
            if cells:
                columns["cell_embeddings"] = embedding_column(np.stack([row["cells"] for row in rows]))
            writer.commit_super_images(index.write_super_images(pa.table(columns)))
        writer.upsert_videos(videos)
    return index


def break_rows(index, positions, *, number=np.nan, cells=False, lost=()):
    """Have an index be as an older version may have left it: {video_id: positions} of super images, or of their cells,
    with a number that is not finite, the means of their videos too (the last one's is not there at all); lost: videos
    whose super images and mean are gone."""
    images, videos = (index.table(name).to_table() for name in ("super_images", "videos"))
    keys = zip(images["video_id"].to_pylist(), images["position"].to_pylist(), strict=True)
    broken = np.array([position in positions.get(video_id, ()) for video_id, position in keys])
    name = "cell_embeddings" if cells else "embedding"
    stored = np.stack(images[name].to_numpy()).astype(np.float16)
    stored[broken, :: 1 if cells else stored.shape[1]] = number
    images = images.set_column(images.schema.get_field_index(name), images.schema.field(name), embedding_column(stored))
    gone = pc.is_in(images["video_id"], value_set=pa.array(lost, pa.string()))
    rows = videos.to_pylist()
    for row in rows:
        if row["video_id"] in lost:
            row["embedding"] = None
        elif row["video_id"] in positions and not cells:
            row["embedding"] = (
                None if row["video_id"] == max(positions) else np.full(index.spec.embedding_dim, number, np.float16)
            )
    for table, new in (("super_images", images.filter(pc.invert(gone))), ("videos", rows)):
        there = index.table(table)
        new = new if table == "super_images" else pa.Table.from_pylist(new, schema=there.schema)
        lance.write_dataset(new, there.uri, mode="overwrite", schema=there.schema)


def give_texts(searcher, vectors, side=0):
    """Have a searcher know texts "0", "1", ... by made-up embeddings, so that no model is needed."""
    searcher.sides[side].texts.remember({str(i): vector for i, vector in enumerate(vectors)})
    return [str(i) for i in range(len(vectors))]
