"""The encoding actors of the encoding graph. Imports neither Lance nor Ray, so that they start fast."""

from collections.abc import Sequence

import pyarrow as pa

from qasir.encoding.encoder import Encoder
from qasir.encoding.models import load_models
from qasir.encoding.rows import ENCODED_SCHEMA, failure_row
from qasir.errors import ModelError
from qasir.index.spec import EncoderSpec
from qasir.vlm.weights import VlmSource


class EncoderActor:
    """An `Encoder` that loads its models where it runs. A model that cannot be loaded is told by the rows, like any
    failure of it: what a constructor raises reaches nobody as one line."""

    def __init__(self, sources: Sequence[VlmSource], specs: Sequence[EncoderSpec], threads: int) -> None:
        self._failure: str | None = None
        try:
            self._encoder = Encoder(specs, load_models(sources, specs, threads))
        except ModelError as error:
            self._failure = str(error)

    def __call__(self, tiles: pa.Table) -> pa.Table:
        return self._encoder(tiles) if self._failure is None else failure_row(self._failure, ENCODED_SCHEMA)
