"""An index at one moment: versions of `videos` and `super_images` that belong together, read by the reader's rule.

A snapshot stays what it is while jobs write: it pins Lance versions, which are kept for as long as re-indexing is told
to.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance import LanceDataset
from numpy.typing import NDArray

from qasir.errors import QueryError
from qasir.files.readable import reason
from qasir.index.filters import check_condition, quote, with_nulls
from qasir.index.ragged import numbered, ragged_rows, runs_of
from qasir.index.schemas import ENCODED, super_images_schema, videos_schema
from qasir.index.spec import EncoderSpec
from qasir.index.trouble import is_storage, names_its_uri

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VECTOR_INDEX = "embedding_idx"
"""The name of the vector index on `super_images.embedding`."""
IS_ENCODED = f"status = '{ENCODED}'"
IS_STALE = f"{IS_ENCODED} AND error_kind IS NOT NULL"
_MOST_EXCEPTIONS = 5000
_LARGE = pa.schema([("video_id", pa.large_string()), ("uri", pa.large_string())])
"""Offsets of 32 bits end at 2 GiB of ids."""


@dataclass(frozen=True)
class RowMap:
    """The readable rows of `super_images` by video: video v of video_ids (sorted) has row[first[v]] .. row[first[v] +
    length[v]], numbers of rows in the table's order, by position; row_id is what Lance calls each of them."""

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
        """The distinct videos of rows by their row ids, in the order met; rows that are not readable are passed
        over."""
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


def picked_videos(
    videos: LanceDataset, names: list[str], where: str | None, lacking: Mapping[str, pa.DataType]
) -> pa.Table:
    """Columns of the rows of a table `videos` that a SQL filter picks; lacking: columns that the table lacks, null to
    the filter. Raises QueryError for a filter that Lance does not take."""
    if where is None:
        return videos.to_table(columns=names)
    try:
        check_condition(where)
        # In parentheses, because Lance takes the longest condition that the text begins with and ignores the rest.
        return videos.to_table(columns=names, filter=f"({with_nulls(where, lacking)})")
    except (ValueError, RuntimeError) as error:
        if is_storage(error):
            raise
        raise QueryError(
            f"the filter {where!r} is not a SQL condition ({reason(error)}); the columns of `videos` are "
            f"{', '.join([*videos.schema.names, *lacking])}"
        ) from error


def with_columns(rows: pa.Table, names: Sequence[str], lacking: Mapping[str, pa.DataType]) -> pa.Table:
    """Columns of rows, by their names; those that lack are null."""
    for name in dict.fromkeys(names):
        if name in lacking:
            rows = rows.append_column(name, pa.nulls(len(rows), lacking[name]))
    return rows.select(list(names))


@names_its_uri
class Snapshot:
    """Both data tables of an index, pinned. Readers use only rows of super images whose video is encoded under the same
    fingerprint, and everything here returns only those."""

    def __init__(self, uri: str, spec: EncoderSpec, videos: LanceDataset, images: LanceDataset) -> None:
        self.uri = uri
        self.spec = spec
        self.videos_dataset = videos
        self.images_dataset = images
        self._preloaded: pa.Table | None = None
        self._rows: RowMap | None = None
        self._is_indexed: bool | None = None
        self._uris: tuple[pa.Array, pa.Array] | None = None

    def videos(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Rows of `videos`, failed ones too. Columns that an older index lacks are null. Raises QueryError for a filter
        that Lance does not take."""
        there = self.videos_dataset.schema.names
        lacking = {field.name: field.type for field in videos_schema(self.spec) if field.name not in there}
        names = list(columns) if columns is not None else [*there, *lacking]
        mine = [name for name in names if name not in lacking] or there[:1]
        return with_columns(picked_videos(self.videos_dataset, mine, where, lacking), names, lacking)

    def select(self, where: str) -> set[str]:
        """Ids of the encoded videos that a SQL filter over `videos` picks. Raises QueryError when it is not one."""
        rows = self.videos(["video_id", "status"], where)
        return set(rows.filter(pc.equal(rows["status"], ENCODED))["video_id"].to_pylist())

    def uris(self, video_ids: Sequence[str]) -> list[str]:
        """Where the files of some videos are, encoded ones, which are looked up among all: two columns of `videos`,
        read once."""
        if self._uris is None:
            rows = self.videos(["video_id", "uri"], IS_ENCODED).sort_by("video_id").cast(_LARGE)
            self._uris = rows["video_id"].combine_chunks(), rows["uri"].combine_chunks()
        ids, uris = self._uris
        at = {i: bisect_left(range(len(ids)), i, key=lambda row: ids[row].as_py()) for i in set(video_ids)}
        return [uris[at[video_id]].as_py() for video_id in video_ids]

    def super_images(self, columns: Sequence[str] | None = None, *, video_ids: Sequence[str] | None = None) -> pa.Table:
        """Readable super images, sorted by (video_id, position); of some videos only, if they are named.

        columns: besides video_id, fingerprint and position, which are always there. Those that an older index lacks are
        null.
        """
        there = self.images_dataset.schema.names
        names = list(columns) if columns is not None else [*there, *self._lacking_of_images]
        names = list(dict.fromkeys(["video_id", "fingerprint", "position", *names]))
        if video_ids is not None:
            wanted = self.rows().of(video_ids)
            if self._preloaded is not None and set(names) <= set(self._preloaded.column_names):
                return self._preloaded.select(names).take(pa.array(wanted, pa.int64()))
            return self.take(wanted, names)
        current = self.videos(["video_id", "fingerprint"], IS_ENCODED)
        mine = [name for name in names if name in there]
        rows = readable(self.images_dataset.to_table(columns=mine), current)
        rows = rows.sort_by([("video_id", "ascending"), ("position", "ascending")])
        return with_columns(rows, names, self._lacking_of_images)

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Super images by the numbers of their rows (`rows`). Columns that an older index lacks are null."""
        names = [name for name in columns if name not in self._lacking_of_images]
        return with_columns(self.images_dataset.take(list(rows), columns=names), columns, self._lacking_of_images)

    @cached_property
    def _lacking_of_images(self) -> dict[str, pa.DataType]:
        """{column: type} of those that the table lacks, an older library having made it."""
        there = set(self.images_dataset.schema.names)
        return {field.name: field.type for field in super_images_schema(self.spec) if field.name not in there}

    def preload(self) -> int:
        """Read the vector index, and the embeddings and spans of all super images as they are stored, into memory; what
        is asked of single videos from here on reads nothing. Returns how many bytes the super images take, about 2 D +
        100 each."""
        gates = ["gate_embedding"] if self.spec.gates else []
        columns = ["video_id", "fingerprint", "position", "start_s", "end_s", "embedding", *gates]
        self._preloaded = self.images_dataset.to_table(columns=columns).combine_chunks()
        if self.is_indexed():
            self.images_dataset.prewarm_index(VECTOR_INDEX)
        return int(self._preloaded.nbytes)

    def is_indexed(self) -> bool:
        """Whether `super_images` has a vector index; looked up once, since every search asks."""
        if self._is_indexed is None:
            self._is_indexed = any(entry["name"] == VECTOR_INDEX for entry in self.images_dataset.list_indices())
        return self._is_indexed

    def rows(self) -> "RowMap":
        """Where the readable rows of each video lie: a scan of the keys, once (0.1 s for a million rows)."""
        if self._rows is None:
            self._rows = self._read_rows()
        return self._rows

    def _read_rows(self) -> RowMap:
        keys = self.images_dataset.scanner(columns=["video_id", "fingerprint", "position"], with_row_id=True).to_table()
        number = pa.array(np.arange(len(keys)))
        keys = readable(keys.append_column("row", number), self.videos(["video_id", "fingerprint"], IS_ENCODED))
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
        current = self.videos(["video_id", "fingerprint"], IS_ENCODED)
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
        return self.videos(columns, f"{IS_ENCODED} AND n_super_images > 0").sort_by("video_id")


def matrix(column: pa.ChunkedArray, dim: int) -> NDArray[np.float16]:
    """(n, dim) from a fixed-size list column of float16."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)


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
