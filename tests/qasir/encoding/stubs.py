"""The plain loop with a model made of NumPy. Imports no torch."""

import numpy as np

from qasir.encoding.decode import decode_segments
from qasir.encoding.options import EncodeOptions, ReindexOptions
from qasir.encoding.plain_loop import PlainLoop
from qasir.encoding.reindex import reindex_corpus
from qasir.encoding.run import run_encoding
from qasir.index.index import Index
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import list_videos

SPEC = EncoderSpec(
    model="m",
    pretrained="p",
    weights="w",
    grid=2,
    image_size=16,
    fps=2.0,
    embedding_dim=12,
    precision="fp32",
    thumbnails=False,
)


class PixelModel:
    """An embedding is the mean colours of the image's quarters, which differ from frame to frame; no two pictures share
    one."""

    def encode_images(self, pixels, *, grid=None):
        n, side = len(pixels), pixels.shape[1] // 2
        quarters = pixels.reshape(n, 2, side, 2, side, 3).astype(np.float32).mean(axis=(2, 4)).reshape(n, -1) + 1.0
        vectors = quarters / np.linalg.norm(quarters, axis=1, keepdims=True)
        return vectors, None if grid is None else np.repeat(vectors[:, None], grid * grid, axis=1)


class BrokenModel:
    def encode_images(self, pixels, *, grid=None):
        raise RuntimeError("out of memory, say")


def encode_stubbed(
    folder, uri, *, models=None, spec=SPEC, on_progress=lambda progress: None, batch=2, calls=1,
    isolate=False, decode=decode_segments, **options,
):  # fmt: skip
    """Encode a folder on the plain loop without a model: (summary, index)."""
    corpus = list_videos(str(folder))
    index = Index.open_or_new(str(uri), spec, corpus.root, corpus.source)
    chosen = EncodeOptions(**options)
    stages = PlainLoop(
        [index], lambda: models or [PixelModel()], chosen, batch=batch, calls=calls, isolate=isolate, decode=decode
    )
    (summary,) = run_encoding(corpus, [index], stages, chosen, on_progress=on_progress)
    return summary, index


def reindex_stubbed(folder, uri, *, batch=2, max_removed=1.0, **options):
    """Re-index on the plain loop without a model: (summary, index)."""
    index, chosen = Index.open(str(uri)), EncodeOptions(**options)

    def stages(indexes):
        return PlainLoop(indexes, lambda: [PixelModel()] * len(indexes), chosen, batch=batch, isolate=False)

    (summary,) = reindex_corpus(
        list_videos(str(folder)), [index], stages, ReindexOptions(max_removed=max_removed), chosen
    )
    return summary, index
