"""An index at one moment: versions of `videos` and `super_images` that belong together, read by the reader's rule.

A snapshot stays what it is while jobs write: it pins Lance versions, which are kept for as long as re-indexing is told to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance import LanceDataset
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.features import Features, normalised, ragged_rows
from qasir.spec import EncoderSpec
from qasir.sql import check_condition, quote
from qasir.tables import ENCODED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VECTOR_INDEX = "embedding_idx"
"""The name of the vector index on `super_images.embedding`."""
_IS_ENCODED = f"status = '{ENCODED}'"
_MOST_EXCEPTIONS = 5000
_ROWS_AT_ONCE = 1 << 16


def numbered(video_ids: Sequence[str]) -> dict[str, int]:
    """video_id -> its place in the sequence."""
    return {video_id: v for v, video_id in enumerate(video_ids)}


@dataclass(frozen=True)
class FeatureTable:
    """Readable super images or cells in memory. Videos are in order of their ids; the rows of one video lie together, in order
    of time, and videos of one length one after another, which scoring likes.

    features: their embeddings, rows renormalised after their float16 storage; start_s and end_s (n,) seconds, a row each.
    """

    video_ids: list[str]
    features: Features
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    @property
    def n_videos(self) -> int:
        return len(self.video_ids)

    @cached_property
    def place(self) -> dict[str, int]:
        """video_id -> its number."""
        return numbered(self.video_ids)

    def rows(self, video_id: str) -> slice:
        """The rows of one video."""
        first = int(self.features.first[self.place[video_id]])
        return slice(first, first + int(self.features.length[self.place[video_id]]))


@dataclass(frozen=True)
class RowMap:
    """The readable rows of `super_images` by video: video v of video_ids (sorted) has row[first[v]] .. row[first[v] + length[v]],
    numbers of rows in the table's order, by position; row_id is what Lance calls each of them."""

    video_ids: list[str]
    first: NDArray[np.int64]
    length: NDArray[np.int64]
    row: NDArray[np.int64]
    row_id: NDArray[np.uint64]

    def of(self, video_ids: Sequence[str]) -> list[int]:
        """Numbers of the rows of some videos, in order of ids and positions; videos without rows are passed over."""
        videos = np.array([self._place[i] for i in sorted(set(video_ids)) if i in self._place], dtype=np.int64)
        return self.row[ragged_rows(self.first[videos], self.length[videos])].tolist()

    def videos_at(self, row_id: NDArray[np.uint64]) -> list[str]:
        """The distinct videos of rows by their row ids, in the order met; rows that are not readable are passed over."""
        order, sorted_id = self._by_row_id
        at = np.minimum(np.searchsorted(sorted_id, row_id), len(order) - 1)
        rows = order[at[sorted_id[at] == row_id]]
        videos = np.searchsorted(self.first, rows, side="right") - 1
        return [self.video_ids[v] for v in dict.fromkeys(videos.tolist())]

    @cached_property
    def _place(self) -> dict[str, int]:
        return numbered(self.video_ids)

    @cached_property
    def _by_row_id(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        order = np.argsort(self.row_id, kind="stable")
        return order, self.row_id[order]


@dataclass(frozen=True)
class VideoTable:
    """Encoded videos in order of their ids. vectors (V, D) float32: L2-normalised means of their super images."""

    video_ids: list[str]
    vectors: NDArray[np.float32]
    durations_s: NDArray[np.float64]
    n_super_images: NDArray[np.int64]

    @cached_property
    def place(self) -> dict[str, int]:
        """video_id -> its number."""
        return numbered(self.video_ids)


class Snapshot:
    """Both data tables of an index, pinned. Readers use only rows of super images whose video is encoded under the same
    fingerprint, and everything here returns only those."""

    def __init__(self, uri: str, spec: EncoderSpec, videos: LanceDataset, images: LanceDataset) -> None:
        self.uri = uri
        self.spec = spec
        self.videos_dataset = videos
        self.images_dataset = images
        self._preloaded: pa.Table | None = None

    def videos(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Rows of `videos`, failed ones too. Raises QueryError for a filter that Lance does not take."""
        names = list(columns) if columns is not None else self.videos_dataset.schema.names
        if where is None:
            return self.videos_dataset.to_table(columns=names)
        try:
            check_condition(where)
            # In parentheses, because Lance takes the longest condition that the text begins with and ignores the rest.
            return self.videos_dataset.to_table(columns=names, filter=f"({where})")
        except (ValueError, OSError) as error:
            reason = str(error).split("SELECT 1 FROM")[0].split(", /")[0].splitlines()[0]
            raise QueryError(
                f"the filter {where!r} is not a SQL condition ({reason}); the columns of `videos` are "
                f"{', '.join(self.videos_dataset.schema.names)}"
            ) from error

    def select(self, where: str) -> set[str]:
        """Ids of the encoded videos that a SQL filter over `videos` picks. Raises QueryError when it is not one."""
        rows = self.videos(["video_id", "status"], where)
        return set(rows.filter(pc.equal(rows["status"], ENCODED))["video_id"].to_pylist())

    def super_images(self, columns: Sequence[str] | None = None, *, video_ids: Sequence[str] | None = None) -> pa.Table:
        """Readable super images, sorted by (video_id, position); of some videos only, if they are named.

        columns: besides video_id, fingerprint and position, which are always there.
        """
        names = list(columns) if columns is not None else self.images_dataset.schema.names
        names = list(dict.fromkeys(["video_id", "fingerprint", "position", *names]))
        if video_ids is not None:
            wanted = self.rows.of(video_ids)
            if self._preloaded is not None and set(names) <= set(self._preloaded.column_names):
                return self._preloaded.select(names).take(pa.array(wanted, pa.int64()))
            return self.images_dataset.take(wanted, columns=names)
        current = self.videos(["video_id", "fingerprint"], _IS_ENCODED)
        rows = readable(self.images_dataset.to_table(columns=names), current)
        return rows.sort_by([("video_id", "ascending"), ("position", "ascending")])

    def preload(self) -> int:
        """Read the vector index, and the embeddings and spans of all super images as they are stored, into memory; what is asked of
        single videos from here on reads nothing. Returns how many bytes the super images take, about 2 D + 100 each."""
        gates = ["gate_embedding"] if self.spec.gates else []
        columns = ["video_id", "fingerprint", "position", "start_s", "end_s", "embedding", *gates]
        self._preloaded = self.images_dataset.to_table(columns=columns).combine_chunks()
        if self.is_indexed:
            self.images_dataset.prewarm_index(VECTOR_INDEX)
        return int(self._preloaded.nbytes)

    @cached_property
    def is_indexed(self) -> bool:
        """Whether `super_images` has a vector index."""
        return any(entry["name"] == VECTOR_INDEX for entry in self.images_dataset.list_indices())

    @cached_property
    def rows(self) -> "RowMap":
        """Where the readable rows of each video lie: a scan of the keys, once (0.1 s for a million rows)."""
        keys = self.images_dataset.scanner(columns=["video_id", "fingerprint", "position"], with_row_id=True).to_table()
        number = pa.array(np.arange(len(keys)))
        keys = readable(keys.append_column("row", number), self.videos(["video_id", "fingerprint"], _IS_ENCODED))
        keys = keys.sort_by([("video_id", "ascending"), ("position", "ascending")])
        ids, first, length = runs_of(keys["video_id"])
        return RowMap(ids, first, length, keys["row"].to_numpy(), keys["_rowid"].to_numpy())

    def tags(self) -> list[str]:
        """Versions that re-indexing tagged in both tables, oldest first."""
        return sorted(set(self.videos_dataset.tags.list()) & set(self.images_dataset.tags.list()))

    def rule(self) -> str:
        """A SQL filter over `super_images` that leaves just the readable rows, for tools that know one table at a time.

        Where every row is readable, which is nearly always, it is `true`. Raises QueryError when rows of thousands of
        videos are in between.
        """
        rows = self.images_dataset.to_table(columns=["video_id", "fingerprint"])
        current = self.videos(["video_id", "fingerprint"], _IS_ENCODED)
        others = rows.filter(pc.invert(_is_in(rows, current))).group_by(["video_id", "fingerprint"]).aggregate([])
        if len(others) > _MOST_EXCEPTIONS:
            raise QueryError(
                f"{self.uri}: rows of {len(others)} videos are not readable yet: wait for the encoding job, or read "
                "Snapshot.super_images()"
            )
        exceptions = [
            f"(video_id = {quote(row['video_id'])} AND fingerprint = {quote(row['fingerprint'])})"
            for row in others.to_pylist()
        ]
        return f"NOT ({' OR '.join(exceptions)})" if exceptions else "true"

    def duckdb(self) -> "DuckDBPyConnection":
        """A DuckDB connection with the views `videos`, `super_images` (readable rows only) and, if stored, its cells.

        Embeddings are lists of floats there. Raises QueryError when DuckDB is not installed.
        """
        try:
            import duckdb
        except ImportError as error:
            raise QueryError("DuckDB is not installed: pip install duckdb") from error
        connection = duckdb.connect()
        connection.register("videos", _for_duckdb(self.videos()))
        connection.register("super_images", _for_duckdb(self.super_images()))
        return connection

    # In memory

    def encoded(self) -> pa.Table:
        """video_id, fingerprint and n_super_images of the videos that can be searched, in order of their ids."""
        columns = ["video_id", "fingerprint", "n_super_images"]
        return self.videos(columns, f"{_IS_ENCODED} AND n_super_images > 0").sort_by("video_id")

    def load_videos(self) -> VideoTable:
        """Every encoded video that has super images, with its vector."""
        rows = self.videos(
            ["video_id", "embedding", "duration_s", "n_super_images"], f"{_IS_ENCODED} AND n_super_images > 0"
        )
        rows = rows.sort_by("video_id")
        return VideoTable(
            rows["video_id"].to_pylist(),
            normalised(matrix(rows["embedding"], self.spec.embedding_dim)),
            rows["duration_s"].to_numpy(),
            rows["n_super_images"].to_numpy().astype(np.int64),
        )

    def load(self, granularity: str = "super-image", video_ids: Sequence[str] | None = None) -> FeatureTable:
        """Every readable super image, or every filled cell of one, or those of some videos. Raises QueryError for cells where
        the index has none."""
        check_granularity(granularity, self)
        is_cell = granularity == "cell"
        has_gates = self.spec.gates and not is_cell
        columns = ["start_s", "end_s", *(["n_valid", "cell_embeddings"] if is_cell else ["embedding"])]
        columns += ["gate_embedding"] if has_gates else []
        rows = self.super_images(columns, video_ids=video_ids)
        start, end = rows["start_s"].to_numpy(), rows["end_s"].to_numpy()
        ids, first, length = runs_of(rows["video_id"])
        if is_cell:
            n_cells = self.spec.frames_per_super_image
            filled = np.arange(n_cells) < rows["n_valid"].to_numpy()[:, None]
            stored = matrix(rows["cell_embeddings"], n_cells * self.spec.embedding_dim)
            stored = stored.reshape(-1, self.spec.embedding_dim)[filled.ravel()]
            start = (start[:, None] + np.arange(n_cells) / self.spec.fps)[filled]
            end = np.minimum(start + 1.0 / self.spec.fps, np.repeat(end, filled.sum(axis=1)))
            if len(first):
                length = np.add.reduceat(filled.sum(axis=1), first)
                first = np.cumsum(length) - length
        else:
            stored = matrix(rows["embedding"], self.spec.embedding_dim)
        order, first = _by_length(first, length)
        gates = matrix(rows["gate_embedding"], self.spec.embedding_dim) if has_gates else None
        features = Features(first, length, _ordered(stored, order), None if gates is None else _ordered(gates, order))
        return FeatureTable(ids, features, start[order], end[order])


GRANULARITIES = ("super-image", "cell")


def check_granularity(granularity: str, snapshot: Snapshot) -> None:
    if granularity not in GRANULARITIES:
        raise QueryError(f"granularity {granularity!r}: choose one of {', '.join(GRANULARITIES)}")
    if granularity == "cell" and not snapshot.spec.cells:
        raise QueryError(f"the index at {snapshot.uri} was made with --no-cells: it has no cell embeddings")


def runs_of(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """(values, first row, rows) of the runs of equal values in a sorted column of strings."""
    if len(column) == 0:
        return [], np.zeros(0, np.int64), np.zeros(0, np.int64)
    coded = pc.run_end_encode(column.combine_chunks())
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    ends = coded.run_ends.to_numpy().astype(np.int64)
    first = np.concatenate([[0], ends[:-1]])
    return coded.values.to_pylist(), first, ends - first


def matrix(column: pa.ChunkedArray, dim: int) -> NDArray[np.float16]:
    """(n, dim) from a fixed-size list column of float16."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)


def _by_length(first: NDArray[np.int64], length: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows in their new order, first): videos sorted by length, each with its rows as they were."""
    videos = np.lexsort((first, length))
    sizes = length[videos]
    new_first = np.empty_like(first)
    new_first[videos] = np.cumsum(sizes) - sizes
    rows = np.repeat(first[videos] - new_first[videos], sizes) + np.arange(sizes.sum())
    return rows, new_first


def _ordered(stored: NDArray[np.float16], order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows in another order, renormalised, some at a time."""
    vectors = np.empty(stored.shape, np.float32)
    for low in range(0, len(order), _ROWS_AT_ONCE):
        some = slice(low, low + _ROWS_AT_ONCE)
        vectors[some] = normalised(stored[order[some]])
    return vectors


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    """One string a row that is equal exactly when (video_id, fingerprint) are."""
    return pc.binary_join_element_wise(rows["video_id"], rows["fingerprint"], "\x00")


def _is_in(rows: pa.Table, current: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(_keys(rows), value_set=_keys(current).combine_chunks())


def readable(rows: pa.Table, current: pa.Table) -> pa.Table:
    """The rows whose (video_id, fingerprint) is one of `current`."""
    return rows.filter(_is_in(rows, current))


def _for_duckdb(rows: pa.Table) -> pa.Table:
    """DuckDB has no 16-bit floats."""
    fields: list[Any] = []
    for field in rows.schema:
        if pa.types.is_fixed_size_list(field.type):
            field = field.with_type(pa.list_(pa.float32(), field.type.list_size))
        fields.append(field)
    return rows.cast(pa.schema(fields))
