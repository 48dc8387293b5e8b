"""Makes an index from features of frames that others computed: planned, leased, committed and gone on with as encoding
is, by the same code; only the stages are others."""

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.encoding.bounds import Capacity
from qasir.encoding.feature_corpus import FeatureCorpus
from qasir.encoding.options import EncodeOptions
from qasir.encoding.receipts import Receipt, written_of
from qasir.encoding.reports import Report
from qasir.encoding.rows import ENCODED_SCHEMA
from qasir.encoding.run import EncodeSummary, OnProgress, ignore, run_encoding
from qasir.encoding.watched import Death
from qasir.encoding.write import write_rows
from qasir.errors import FeaturesError
from qasir.features.shaping import NotFiniteError
from qasir.index.index import Index
from qasir.index.schemas import ENCODED, FAILED
from qasir.video.video_file import VideoFile

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1 << 16
"""As many as a fragment of a compacted table has, so that what is written need not be written again,"""
BYTES_AT_ONCE = 128 << 20
"""but no more of them than this, as float16."""
_TOLD = 5


def import_features(
    features: FeatureCorpus, index: Index, options: EncodeOptions | None = None, *, on_progress: OnProgress = ignore
) -> EncodeSummary:
    """Import the videos whose features are new or changed; nothing is removed. A video whose features cannot be used is
    a failed row, never an exception.

    Raises IndexHeldError if another job writes the index. Killed at any moment and called again, it goes on from its
    last commit.
    """
    (summary,) = run_encoding(
        features.corpus, [index], FeatureStages(features, index), options or EncodeOptions(), job="import_features",
        on_progress=on_progress,
    )  # fmt: skip
    return summary


@dataclass
class _Batch:
    """Rows on their way to a fragment."""

    tables: list[pa.Table] = field(default_factory=list)
    vectors: list[NDArray[np.float16]] = field(default_factory=list)
    n_rows: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.time)

    def add(self, rows: pa.Table, vectors: NDArray[np.float16], seconds: float) -> None:
        self.tables.append(rows)
        self.vectors.append(vectors)
        self.n_rows += len(rows)
        self.seconds += seconds

    def encoded(self) -> pa.Table:
        """ENCODED_SCHEMA."""
        vectors = np.ascontiguousarray(np.concatenate(self.vectors))
        n, row_bytes = len(vectors), vectors.shape[1] * vectors.itemsize
        offsets = pa.py_buffer((np.arange(n + 1) * row_bytes).astype(np.int32))
        packed = pa.Array.from_buffers(pa.binary(), n, [None, offsets, pa.py_buffer(vectors)])
        rows = pa.concat_tables(self.tables)
        columns = {
            **{name: rows[name] for name in rows.column_names},
            "index": pa.array(np.zeros(n, np.int32)),
            "embedding": packed,
            "encode_s": pa.array(np.full(n, self.seconds / n)),
            "began": pa.array(np.full(n, self.began)),
        }
        for column in ENCODED_SCHEMA:
            columns.setdefault(column.name, pa.nulls(n, column.type))
        return pa.table({name: columns[name] for name in ENCODED_SCHEMA.names}, schema=ENCODED_SCHEMA)


class FeatureStages:
    """`Stages` that read a video's features and write them, in this process: one video after another, so of memory it
    takes what a fragment has."""

    def __init__(self, features: FeatureCorpus, index: Index) -> None:
        self.capacity: Capacity | None = None
        self._features = features
        self._index = index
        row_bytes = index.spec.embedding_dim * np.dtype(np.float16).itemsize
        self._most = max(1, min(_ROWS_AT_ONCE, BYTES_AT_ONCE // row_bytes))

    def run(self, plan: pa.Table) -> Generator[Receipt, None, None]:
        yield from told(self.receipts(plan))

    def receipts(self, plan: pa.Table) -> Iterator[Receipt]:
        """As `run`, without a word about what cannot be used."""
        batch = _Batch()
        for row in plan.to_pylist():
            video = VideoFile(*(row[name] for name in ("video_id", "uri", "size_bytes", "fingerprint")))
            committed = {position for need in row["needs"] for position in need["committed"]}
            yield self._read(video, committed, batch)
            if batch.n_rows >= self._most:
                encoded, batch = batch.encoded(), _Batch()  # whose parts need not be there while it is written
                yield from written_of(write_rows(encoded, [self._index]))
        if batch.n_rows:
            encoded, batch = batch.encoded(), _Batch()
            yield from written_of(write_rows(encoded, [self._index]))

    def alone(self, segments: Sequence[pa.Table]) -> list[Death | None]:
        return [None] * len(segments)  # nothing is read in another process

    def _read(self, video: VideoFile, committed: set[int], batch: _Batch) -> Report:
        """Put what is not committed of a video into the batch; what became of it."""
        since = time.perf_counter()
        try:
            if self._features.fingerprint(video.video_id) != video.fingerprint:
                raise FeaturesError(f"{video.uri}: the file changed since it was listed: import it again")
            found = self._features.load(video.video_id)
        except FeaturesError as error:
            kind = "not_finite" if isinstance(error, NotFiniteError) else "features"
            return Report(**video.columns, status=FAILED, error_kind=kind, error=str(error))
        rows, vectors = found.table(video), found.vectors.astype(np.float16)
        new = np.array([position not in committed for position in range(len(vectors))])
        if new.any():
            batch.add(rows.filter(pa.array(new)), vectors[new], time.perf_counter() - since)
        return Report(
            **video.columns, status=ENCODED, duration_s=found.duration_s, fps=found.n_frames / found.duration_s,
            n_sampled=found.n_frames, n_super_images=len(vectors), n_new=int(new.sum()),
        )  # fmt: skip


def told(receipts: Iterator[Receipt]) -> Generator[Receipt, None, None]:
    """The same receipts, with a word in the log about the first that tell of features that cannot be used."""
    n_failed = 0
    for receipt in receipts:
        if isinstance(receipt, Report) and receipt.failed:
            if n_failed < _TOLD:
                log.warning("%s", receipt.error)
            n_failed += 1
        yield receipt
