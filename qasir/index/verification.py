"""Whether the rows of an index are what its `videos` say: after a run that did not end as it should, or when asked.

`videos` and `super_images` cannot commit together, and a run that lost its lease in the middle of a commit may write
once more. So a run that left everything right records the versions of both tables (`Clean`); a run that finds others
looks at the videos written since.
"""

import json
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import lance
import pyarrow as pa
import pyarrow.compute as pc

from qasir.index.cell_times import TIMES, are_timed
from qasir.index.filters import id_filter, in_chunks
from qasir.index.finite import finite_rows
from qasir.index.index import Index, embedding_names
from qasir.index.runs import Runs
from qasir.index.schemas import ENCODED
from qasir.index.writer import Writer

log = logging.getLogger(__name__)

_MANY = 5_000
"""So many ids are not looked up one filter after another: reading all is faster."""
BROKEN = "broken"
"""What a run's counts have when it found videos to encode again."""


@dataclass(frozen=True)
class Place:
    """A version of a table, and the last fragment it has: what is written later has later fragments."""

    version: int
    last_fragment: int


@dataclass(frozen=True)
class Clean:
    """The data tables as a run left them."""

    videos: Place
    super_images: Place

    @classmethod
    def of(cls, tables: Sequence[lance.LanceDataset]) -> "Clean":
        """Of DATA_TABLES, in their order."""
        return cls(*(Place(t.version, max((f.fragment_id for f in t.get_fragments()), default=-1)) for t in tables))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Clean":
        return cls(**{name: Place(**place) for name, place in json.loads(text).items()})


def last_clean(runs: Runs, *, before: int) -> tuple[Clean | None, bool]:
    """(what the last run before this epoch recorded that left everything right, whether it was the last run)."""
    rows = [row for row in runs.all(["clean"]) if row["epoch"] < before]
    texts = [row["clean"] for row in rows if row["clean"]]
    return (Clean.from_json(texts[-1]) if texts else None), bool(rows and rows[-1]["clean"])


def written_since(index: Index, clean: Clean) -> set[str] | None:
    """Ids of the videos with rows written, removed or deleted since; None when that can no longer be told."""
    found: set[str] = set()
    for name, place in (("videos", clean.videos), ("super_images", clean.super_images)):
        now = index.table(name)
        try:
            then = index.table(name, version=place.version)
            found |= _deleted(then, now)
        except (ValueError, OSError):  # cleaned up, or damaged since
            return None
        new = [fragment for fragment in now.get_fragments() if fragment.fragment_id > place.last_fragment]
        found |= set(_ids(now, new))
    return found


def _deleted(then: lance.LanceDataset, now: lance.LanceDataset) -> set[str]:
    """Ids of rows that were there then, and are not in the same fragments now."""
    before = {fragment.fragment_id: fragment for fragment in then.get_fragments()}
    after = {fragment.fragment_id: fragment for fragment in now.get_fragments()}
    worn = [n for n in before if n not in after or after[n].num_deletions != before[n].num_deletions]
    left = Counter(_ids(now, [after[n] for n in worn if n in after]))
    return set(Counter(_ids(then, [before[n] for n in worn])) - left)


def broken_videos(index: Index, among: Collection[str] | None = None) -> list[str]:
    """Videos with two rows, and encoded ones whose super images are not the positions 0 .. n_super_images - 1, once
    each; of these ids, which are looked up by the index on `video_id`, or of all."""
    if among is None:
        return _broken(index, None)
    if len(among) > _MANY:
        return sorted(set(_broken(index, None)) & set(among))
    return [video_id for ids in in_chunks(sorted(among)) for video_id in _broken(index, id_filter(ids))]


def _broken(index: Index, condition: str | None) -> list[str]:
    columns = ["video_id", "fingerprint", "n_super_images", "status"]
    videos = index.table("videos").to_table(columns=columns, filter=condition)
    rows_each = videos.group_by("video_id").aggregate([([], "count_all")])
    twice = rows_each.filter(pc.greater(rows_each["count_all"], 1))["video_id"].to_pylist()  # by two runs at once
    videos = videos.filter(pc.equal(videos["status"], ENCODED)).drop_columns(["status"])
    keys = ["video_id", "fingerprint"]
    rows = index.table("super_images").to_table(columns=[*keys, "position"], filter=condition)
    found = rows.group_by(keys).aggregate(
        [("position", "count"), ("position", "count_distinct"), ("position", "min"), ("position", "max")]
    )
    both = videos.join(found, keys, join_type="left outer")
    n = pc.fill_null(both["n_super_images"], 0)
    count, distinct, least, most = (
        pc.fill_null(both[f"position_{name}"], default)
        for name, default in (("count", 0), ("count_distinct", 0), ("min", 0), ("max", -1))
    )
    right = pc.and_(pc.equal(count, n), pc.equal(distinct, n))
    right = pc.and_(right, pc.and_(pc.equal(least, 0), pc.equal(most, pc.subtract(n, 1))))
    return sorted({*twice, *both.filter(pc.invert(right))["video_id"].to_pylist()})


def not_finite_videos(index: Index) -> set[str]:
    """Videos with an embedding that has NaN or infinite numbers, which an older version of the library stored."""
    table, names = index.table("super_images"), embedding_names(index.spec)
    found: set[str] = set()
    for batch in table.scanner(columns=["video_id", *names]).to_batches():
        finite = finite_rows(pa.Table.from_batches([batch]), names)
        found.update(batch["video_id"].filter(pa.array(~finite)).to_pylist())
    return found


def untimed_videos(index: Index) -> set[str]:
    """Videos with a super image that has not as many times as cells."""
    table = index.table("super_images")
    found: set[str] = set()
    if "cell_s" not in table.schema.names:
        return found
    for batch in table.scanner(columns=["video_id", *TIMES]).to_batches():
        rows = pa.Table.from_batches([batch])
        found.update(rows["video_id"].filter(pc.invert(are_timed(rows, index.spec))).to_pylist())
    return found


def encode_again(writer: Writer, video_ids: Collection[str]) -> None:
    """Forget these videos, so that they are new to whoever compares: a reader sees none of their rows meanwhile."""
    for video_id in sorted(video_ids)[:5]:
        log.warning("%s: the rows of %s are not what they should be: it is encoded again", writer.index.uri, video_id)
    writer.remove(sorted(video_ids))


def _ids(table: lance.LanceDataset, fragments: Sequence[lance.LanceFragment]) -> list[str]:
    if not fragments:
        return []
    return table.scanner(columns=["video_id"], fragments=fragments).to_table()["video_id"].to_pylist()
