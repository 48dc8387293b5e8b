"""Stage 2: turns tiles into embeddings with one VLM a worker."""

import logging

import numpy as np
import pyarrow as pa
import torch

from qasir.index import embedding_column
from qasir.spec import EncoderSpec
from qasir.stages.rows import BROKEN, REPORT
from qasir.vlm import Vlm, VlmSource

log = logging.getLogger(__name__)


class Encoder:
    """Encodes tiles with one VLM. Built once per worker; `threads` bounds what torch takes of a shared CPU."""

    def __init__(self, source: VlmSource, spec: EncoderSpec, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.spec = spec
        self.vlm = Vlm(source, image_size=spec.image_size, precision=spec.precision)

    def __call__(self, tiles: pa.Table) -> pa.Table:
        """Encoded rows; or one BROKEN row, since an exception here would only lose the batch."""
        try:
            return self.encode(tiles)
        except Exception as error:
            log.exception("encoding a batch of %d rows", len(tiles))
            message = f"the encoder failed: {type(error).__name__}: {error}"
            return pa.table({"position": pa.array([BROKEN], pa.int32()), "report": [message]})

    def encode(self, tiles: pa.Table) -> pa.Table:
        spec = self.spec
        is_image = np.asarray(tiles["position"]) != REPORT
        images = tiles.filter(pa.array(is_image))
        n, side = len(images), spec.image_size
        embeddings = np.zeros((n, spec.embedding_dim), dtype=np.float32)
        cell_embeddings = np.zeros((n, spec.grid**2, spec.embedding_dim), dtype=np.float32) if spec.cells else None
        if n:
            data = b"".join(images["pixels"].to_pylist())
            pixels = np.frombuffer(data, dtype=np.uint8).reshape(n, side, side, 3)
            embeddings, cell_embeddings = self.vlm.encode_images(pixels, grid=spec.grid if spec.cells else None)
        columns = {
            name: images[name] for name in ("video_id", "fingerprint", "position", "start_s", "end_s", "n_valid")
        }
        columns["embedding"] = embedding_column(embeddings)
        if cell_embeddings is not None:
            columns["cell_embeddings"] = embedding_column(cell_embeddings)
        if spec.thumbnails:
            columns["thumbnail"] = images["thumbnail"]
        encoded = pa.table(columns).append_column("report", pa.nulls(n, pa.string()))
        reports = tiles.filter(pa.array(~is_image)).select(["video_id", "fingerprint", "position", "report"])
        return pa.concat_tables([encoded, reports], promote_options="default")
