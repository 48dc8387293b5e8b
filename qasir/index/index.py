"""An index on disk: one LanceDB directory with the tables `videos`, `super_images` and `runs`.

The reader's rule: only super images whose (video_id, fingerprint) is an "encoded" row of `videos` count. New super
images are committed first, then the `videos` row (the switch), then old ones are deleted, so a reader sees a video's
old version or its new one, never a mixture. `Index.snapshot` is how to read by it.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata, write_fragments
from numpy.typing import NDArray

from qasir.errors import NoIndexError, SpecError, UnreadableIndexError
from qasir.files.readable import reason
from qasir.files.uris import absolute_uri, same_place
from qasir.index.damage import damaged_manifests
from qasir.index.filters import id_filter, in_chunks
from qasir.index.schemas import (
    ENCODED,
    FAILED,
    FORMAT,
    ROOT_KEY,
    SOURCE_KEY,
    SPEC_KEY,
    format_of,
    metadata,
    super_images_schema,
    videos_schema,
)
from qasir.index.snapshot import IS_STALE, Snapshot, matrix
from qasir.index.spec import EncoderSpec
from qasir.index.trouble import names_its_uri

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VideoState:
    """What an index knows of one video: columns of its row. A stale one is encoded; a newer version of it failed."""

    fingerprint: str
    status: str
    error_kind: str | None = None
    error: str | None = None
    failed_fingerprint: str | None = None
    attempts: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "VideoState":
        """Of a row of `videos`, which in an older index lacks some columns."""
        return cls(**{name: row.get(name) for name in _STATE})  # type: ignore[arg-type]

    @property
    def stale(self) -> bool:
        return self.status == ENCODED and self.error_kind is not None

    @property
    def failed_version(self) -> str | None:
        """The fingerprint of the version that failed last, if none has succeeded since."""
        return self.fingerprint if self.status == FAILED else self.failed_fingerprint

    def attempts_at(self, fingerprint: str) -> int:
        """How often this version was tried and failed; once, where an older row does not say."""
        return (self.attempts or 1) if fingerprint == self.failed_version else 0


_STATE = [column.name for column in fields(VideoState)]


@names_its_uri
class Index:
    """An open index. `uri` is a folder or an object-store URI; the rest comes from its tables.

    corpus_root: what video ids are relative to; corpus_source: the folder, glob or manifest that it was made from.
    """

    def __init__(self, uri: str, spec: EncoderSpec, corpus_root: str, corpus_source: str = "") -> None:
        self.uri = absolute_uri(uri.rstrip("/"))
        self.spec = spec
        self.corpus_root = corpus_root
        self.corpus_source = corpus_source or corpus_root

    @classmethod
    def open(cls, uri: str) -> "Index":
        """Raises NoIndexError when there is none, UnreadableIndexError when there is one that cannot be read."""
        index = cls.find(uri)
        if index is None:
            raise NoIndexError(f"no index at {uri}: make one with jobs/encode_corpus.py")
        return index

    @classmethod
    def find(cls, uri: str) -> "Index | None":
        """The index at `uri`, or None when nothing is there. Raises UnreadableIndexError, and UriError for a URI that
        cannot be an index's."""
        uri = absolute_uri(uri.rstrip("/"))
        videos = find_table(f"{uri}/videos.lance")
        if videos is None:
            return None
        index = index_of(uri, videos)
        if index is None:
            raise UnreadableIndexError(f"{uri} holds a table `videos` that is not an index's: name another --index")
        return index

    @classmethod
    def open_or_new(cls, uri: str, spec: EncoderSpec, corpus_root: str, corpus_source: str = "") -> "Index":
        """Open the index, or name a new one, which the first run that holds it makes (`qasir.index.lease`).

        Raises SpecError if there is one that holds another spec's rows or another corpus.
        """
        found = cls.find(uri)
        if found is None:
            return cls(uri, spec, corpus_root, corpus_source)
        found.check_spec(spec)
        found.check_root(corpus_root)
        return found

    def check_root(self, corpus_root: str) -> None:
        if not same_place(self.corpus_root, corpus_root):
            raise SpecError(
                f"the index at {self.uri} holds another corpus: its root is {self.corpus_root}, asked for {corpus_root}"
            )

    def check_spec(self, spec: EncoderSpec) -> None:
        differences = self.spec.differences(spec)
        if differences:
            lines = [
                f"  {name}: {mine} in the index, {theirs} asked for" for name, (mine, theirs) in differences.items()
            ]
            raise SpecError(
                f"the index at {self.uri} was made with another encoder spec; name another --index or the same "
                "settings:\n" + "\n".join(lines)
            )

    @property
    def table_metadata(self) -> dict[bytes, bytes]:
        """What each of its tables carries in its schema."""
        return metadata(self.spec, self.corpus_root, self.corpus_source)

    def table_uri(self, name: str) -> str:
        return f"{self.uri}/{name}.lance"

    def table(self, name: str, version: int | str | None = None) -> lance.LanceDataset:
        """The Lance dataset of `videos`, `super_images` or `runs`, at its newest version, or another one or a tag."""
        uri = self.table_uri(name)
        try:
            return lance.dataset(uri, version=version)
        except (ValueError, OSError):
            if version is None:
                _refuse_damaged(uri)
            raise

    # Reading

    @property
    def version(self) -> int | None:
        """The newest version of `videos`; None of an index that no run has made yet."""
        table = find_table(self.table_uri("videos"))
        return None if table is None else int(table.version)

    def runs(self) -> list[dict[str, Any]]:
        """The rows of `runs`; none of an index that no run has made yet."""
        table = find_table(self.table_uri("runs"))
        return [] if table is None else table.to_table().to_pylist()

    def states(self, video_ids: Sequence[str] | None = None) -> dict[str, VideoState]:
        """video_id -> what its row says, of every video ever tried, or of these as far as there are rows of them."""
        videos = find_table(self.table_uri("videos"))
        if videos is None:  # no run has made it yet
            return {}
        known = set(videos.schema.names)  # an older index lacks some, until it is written to
        columns = ["video_id", *(name for name in _STATE if name in known)]
        conditions = [None] if video_ids is None else [id_filter(ids) for ids in in_chunks(list(video_ids))]
        rows = (row for one in conditions for row in videos.to_table(columns=columns, filter=one).to_pylist())
        return {row["video_id"]: VideoState.of(row) for row in rows}

    def n_stale(self) -> int:
        """How many videos are read as they were before their file changed, since the new version of it failed."""
        return int(self.table("videos").count_rows(IS_STALE))

    def leftovers(self, videos: dict[str, str]) -> tuple[dict[str, list[int]], set[str]]:
        """What is stored of {video_id: fingerprint}: positions committed under it, and the ids with rows of another
        one."""
        positions: dict[str, list[int]] = {}
        others: set[str] = set()
        table = self.table("super_images")
        if not videos or table.count_rows() == 0:
            return positions, others
        rows = table.to_table(columns=["video_id", "fingerprint", "position"])
        mask = pc.is_in(rows["video_id"], value_set=pa.array(list(videos), pa.string()))
        for row in rows.filter(mask).to_pylist():
            if videos[row["video_id"]] == row["fingerprint"]:
                positions.setdefault(row["video_id"], []).append(row["position"])
            else:
                others.add(row["video_id"])
        return positions, others

    def embedding_sums(self, videos: dict[str, str]) -> dict[str, NDArray[np.float64]]:
        """video_id -> (D,) sum of the embeddings stored for {video_id: fingerprint}."""
        sums: dict[str, NDArray[np.float64]] = {}
        for ids in in_chunks(sorted(videos)):
            columns = ["video_id", "fingerprint", "embedding"]
            rows = self.table("super_images").to_table(columns=columns, filter=id_filter(ids))
            vectors = matrix(rows["embedding"], self.spec.embedding_dim).astype(np.float64)
            keys = zip(rows["video_id"].to_pylist(), rows["fingerprint"].to_pylist(), strict=True)
            for (video_id, fingerprint), vector in zip(keys, vectors, strict=True):
                if videos[video_id] == fingerprint:
                    sums[video_id] = sums.get(video_id, 0.0) + vector
        return sums

    def snapshot(self, version: str | None = None) -> Snapshot:
        """Both data tables as they belong together: the newest, or those of a tag (`reindex-...`).

        Raises NoIndexError when there is no such tag.
        """
        if version is not None:
            tables = [self.table(name) for name in ("videos", "super_images")]
            for table in tables:
                if version not in table.tags.list():
                    known = ", ".join(sorted(tables[0].tags.list())) or "none"
                    raise NoIndexError(f"the index at {self.uri} has no version {version!r}; its tags: {known}")
            videos, images = (lance.dataset(table.uri, version=version) for table in tables)
            return Snapshot(self.uri, self.spec, videos, images)
        # Super images are committed before the switch in `videos` and deleted after it: if `videos` did not change
        # while `super_images` was opened, then all it speaks of is there.
        while True:
            videos, images = self.table("videos"), self.table("super_images")
            if self.table("videos").version == videos.version:
                return Snapshot(self.uri, self.spec, videos, images)

    # Writing, for which a run holds the index: `qasir.index.writer`

    def make(self, check: Callable[[], None]) -> None:
        """Make the data tables of a new index. Only for whoever holds it, which check() looks at before each. Raises
        SpecError if another made them since, with another spec or corpus."""
        found = Index.find(self.uri)
        if found is not None:
            found.check_spec(self.spec)
            found.check_root(self.corpus_root)
            return
        schemas = {"super_images": super_images_schema(self.spec), "videos": videos_schema(self.spec)}
        # `videos` comes last: an index without it does not exist yet, so a kill in between leaves nothing to mend.
        for name, schema in schemas.items():
            there = find_table(self.table_uri(name))
            if there is not None and there.count_rows():
                raise UnreadableIndexError(
                    f"{self.uri} has rows in `{name}` but no table `videos`: restore it, or name another --index"
                )
            schema = schema.with_metadata(self.table_metadata)
            mode = "create" if there is None else "overwrite"
            check()
            lance.write_dataset(schema.empty_table(), self.table_uri(name), schema=schema, mode=mode)

    def write_super_images(self, rows: pa.Table) -> list[FragmentMetadata]:
        """Write rows as uncommitted fragments, from any process; `Writer.commit_super_images` makes them visible."""
        schema = super_images_schema(self.spec)
        return write_fragments(rows.select(schema.names).cast(schema), self.table_uri("super_images"), schema=schema)


def index_of(uri: str, table: lance.LanceDataset) -> Index | None:
    """The index that one of its tables speaks of; None when it is no index's. Raises UnreadableIndexError for a newer
    format."""
    found = table.schema.metadata or {}
    if SPEC_KEY not in found or ROOT_KEY not in found:
        return None
    if format_of(table.schema) > FORMAT:
        raise UnreadableIndexError(
            f"{uri} was made by a newer version of qasir (format {format_of(table.schema)}; this one reads up to "
            f"{FORMAT}): update qasir"
        )
    spec = EncoderSpec.from_json(found[SPEC_KEY].decode())
    return Index(uri, spec, found[ROOT_KEY].decode(), found.get(SOURCE_KEY, b"").decode())


def find_table(uri: str) -> lance.LanceDataset | None:
    """A Lance table, or None when there is none. Any other trouble is an error, lest a table be taken for missing."""
    try:
        table = lance.dataset(uri)
    except (ValueError, OSError) as error:
        if "was not found" in str(error):
            return None
        _refuse_damaged(uri)
        raise UnreadableIndexError(f"cannot read {uri}: {reason(error)}") from error
    if not table.schema.names:  # what Lance makes of a manifest of zeros
        _refuse_damaged(uri)
    return table


def embedding_names(spec: EncoderSpec) -> list[str]:
    """The columns of `super_images` that hold vectors."""
    return ["embedding", *["gate_embedding"] * spec.gates, *["cell_embeddings"] * spec.cells]


def _refuse_damaged(uri: str) -> None:
    damaged: list[str] = []
    # Of a store that cannot be reached, or that Arrow does not know, another error says so.
    with suppress(OSError, ValueError):
        damaged = damaged_manifests(uri)
    if damaged:
        raise UnreadableIndexError(
            f"cannot read {uri}: its newest manifest {damaged[0]} was not written whole, as after a power loss; "
            "jobs/reindex_corpus.py --repair deletes that file and mends what is missing"
        )


def embedding_column(values: NDArray[np.floating[Any]]) -> pa.FixedSizeListArray:
    """(n, dim) -> a fixed-size list column of float16."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def now() -> datetime:
    return datetime.now(UTC)


def to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
