"""What a search answers with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import pandas

HITS_SCHEMA = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Hit:
    """A video, its score, and its best moment in seconds: the span around the attention peak."""

    video_id: str
    score: float
    start_s: float
    end_s: float


class Hits(list[Hit]):
    """The hits of one query, best first. exact: False when candidates came from the vector index, which may miss
    some."""

    def __init__(self, query: str, hits: Sequence[Hit], *, exact: bool) -> None:
        super().__init__(hits)
        self.query = query
        self.exact = exact

    def to_arrow(self) -> pa.Table:
        """A row a hit, as `HITS_SCHEMA`."""
        rows = [{"query": self.query, "rank": i, **vars(hit)} for i, hit in enumerate(self, start=1)]
        return pa.Table.from_pylist(rows, schema=HITS_SCHEMA)

    def to_pandas(self) -> "pandas.DataFrame":
        return self.to_arrow().to_pandas()


class ManyHits(list[Hits]):
    """The hits of many queries, in the order asked."""

    def to_arrow(self) -> pa.Table:
        """A row a hit, as `HITS_SCHEMA`."""
        return pa.concat_tables([HITS_SCHEMA.empty_table(), *(hits.to_arrow() for hits in self)])

    def to_pandas(self) -> "pandas.DataFrame":
        return self.to_arrow().to_pandas()
