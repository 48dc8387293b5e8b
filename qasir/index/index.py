"""An index on disk: one LanceDB directory with the tables `videos`, `super_images` and `runs`.

The reader's rule: only super images whose (video_id, fingerprint) is an "encoded" row of `videos` count. New super
images are committed first, then the `videos` row (the switch), then old ones are deleted, so a reader sees a video's
old version or its new one, never a mixture. `Index.snapshot` is how to read by it.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
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
from qasir.files.uris import absolute_uri
from qasir.index.filters import id_filter, in_chunks, quote
from qasir.index.schemas import (
    ROOT_KEY,
    SOURCE_KEY,
    SPEC_KEY,
    metadata,
    runs_schema,
    super_images_schema,
    videos_schema,
)
from qasir.index.snapshot import Snapshot, matrix
from qasir.index.spec import EncoderSpec
from qasir.index.trouble import names_its_uri

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoState:
    """What an index knows of one video."""

    fingerprint: str
    status: str


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
        """The index at `uri`, or None when nothing is there. Raises UnreadableIndexError."""
        uri = uri.rstrip("/")
        videos = _find_table(f"{uri}/videos.lance")
        if videos is None:
            return None
        found = videos.schema.metadata or {}
        if SPEC_KEY not in found or ROOT_KEY not in found:
            raise UnreadableIndexError(f"{uri} holds a table `videos` that is not an index's: name another --index")
        spec = EncoderSpec.from_json(found[SPEC_KEY].decode())
        return cls(uri, spec, found[ROOT_KEY].decode(), found.get(SOURCE_KEY, b"").decode())

    @classmethod
    def open_or_create(cls, uri: str, spec: EncoderSpec, corpus_root: str, corpus_source: str = "") -> "Index":
        """Open the index, or make an empty one. Raises SpecError if it holds another spec's rows or another corpus."""
        found = cls.find(uri)
        if found is None:
            index = cls(uri, spec, corpus_root, corpus_source)
            # `videos` comes last: an index without it does not exist yet, so a kill in between leaves nothing to mend.
            for name, schema in index._schemas().items():
                there = _find_table(index.table_uri(name))
                if there is not None and there.count_rows():
                    raise UnreadableIndexError(
                        f"{uri} has rows in `{name}` but no table `videos`: restore it, or name another --index"
                    )
                lance.write_dataset(schema.empty_table(), index.table_uri(name), schema=schema, mode="overwrite")
            return index
        found.check_spec(spec)
        found.check_root(corpus_root)
        return found

    def check_root(self, corpus_root: str) -> None:
        if self.corpus_root != corpus_root:
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

    def _schemas(self) -> dict[str, pa.Schema]:
        plain = {
            "runs": runs_schema(),
            "super_images": super_images_schema(self.spec),
            "videos": videos_schema(self.spec),
        }
        carried = metadata(self.spec, self.corpus_root, self.corpus_source)
        return {name: schema.with_metadata(carried) for name, schema in plain.items()}

    def table_uri(self, name: str) -> str:
        return f"{self.uri}/{name}.lance"

    def table(self, name: str) -> lance.LanceDataset:
        """The Lance dataset of `videos`, `super_images` or `runs`, at its newest version."""
        return lance.dataset(self.table_uri(name))

    # Reading

    def states(self) -> dict[str, VideoState]:
        """video_id -> fingerprint and status, of every video ever tried."""
        rows = self.table("videos").to_table(columns=["video_id", "fingerprint", "status"]).to_pylist()
        return {row["video_id"]: VideoState(row["fingerprint"], row["status"]) for row in rows}

    def leftovers(self, videos: dict[str, str]) -> tuple[dict[str, list[int]], set[str]]:
        """What is stored of {video_id: fingerprint}: positions committed under it, and the ids with rows of another
        one."""
        positions: dict[str, list[int]] = {}
        stale: set[str] = set()
        table = self.table("super_images")
        if not videos or table.count_rows() == 0:
            return positions, stale
        rows = table.to_table(columns=["video_id", "fingerprint", "position"])
        mask = pc.is_in(rows["video_id"], value_set=pa.array(list(videos), pa.string()))
        for row in rows.filter(mask).to_pylist():
            if videos[row["video_id"]] == row["fingerprint"]:
                positions.setdefault(row["video_id"], []).append(row["position"])
            else:
                stale.add(row["video_id"])
        return positions, stale

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

    # Writing

    def write_super_images(self, rows: pa.Table) -> list[FragmentMetadata]:
        """Write rows as uncommitted fragments (from any process); `commit_super_images` makes them visible."""
        schema = super_images_schema(self.spec)
        return write_fragments(rows.select(schema.names).cast(schema), self.table_uri("super_images"), schema=schema)

    def commit_super_images(self, fragments: Sequence[FragmentMetadata]) -> None:
        if fragments:
            uri = self.table_uri("super_images")
            version = self.table("super_images").version
            lance.LanceDataset.commit(uri, lance.LanceOperation.Append(list(fragments)), read_version=version)

    def upsert_videos(self, rows: Sequence[dict[str, Any]]) -> None:
        """Insert or replace rows of `videos` by video_id: the switch that makes a video's super images readable."""
        if rows:
            table = pa.Table.from_pylist(list(rows), schema=videos_schema(self.spec))
            merge = self.table("videos").merge_insert("video_id")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(table)

    def delete_stale(self, keep: dict[str, str | None]) -> None:
        """Delete the super images of these videos that are not of the fingerprint to keep (None keeps none)."""
        conditions = [
            f"(video_id = {quote(v)})" if f is None else f"(video_id = {quote(v)} AND fingerprint != {quote(f)})"
            for v, f in keep.items()
        ]
        for some in in_chunks(conditions):
            self.table("super_images").delete(" OR ".join(some))

    def delete_versions(self, versions: Sequence[tuple[str, str]]) -> None:
        """Delete the super images of these (video_id, fingerprint)."""
        conditions = [f"(video_id = {quote(v)} AND fingerprint = {quote(f)})" for v, f in versions]
        for some in in_chunks(conditions):
            self.table("super_images").delete(" OR ".join(some))

    def remove(self, video_ids: Sequence[str]) -> None:
        """Delete videos: first their rows of `videos`, so that no reader sees a part of one."""
        for ids in in_chunks(list(video_ids)):
            self.table("videos").delete(id_filter(ids))
        for ids in in_chunks(list(video_ids)):
            self.table("super_images").delete(id_filter(ids))


def _find_table(uri: str) -> lance.LanceDataset | None:
    """A Lance table, or None when there is none. Any other trouble is an error, lest a table be taken for missing."""
    try:
        return lance.dataset(uri)
    except (ValueError, OSError) as error:
        if "was not found" in str(error):
            return None
        raise UnreadableIndexError(f"cannot read {uri}: {reason(error)}") from error


def embedding_column(values: NDArray[np.floating[Any]]) -> pa.FixedSizeListArray:
    """(n, dim) -> a fixed-size list column of float16."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def now() -> datetime:
    return datetime.now(UTC)


def to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
