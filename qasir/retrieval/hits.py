"""What a search answers with."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
        pa.field("uri", pa.string(), nullable=False),
    ]
)
MOMENTS_SCHEMA = HITS_SCHEMA.append(pa.field("video_score", pa.float32(), nullable=False))


@dataclass(frozen=True)
class Hit:
    """A video, its score, its best moment in seconds (the span around the attention peak), and where its file is."""

    video_id: str
    score: float
    start_s: float
    end_s: float
    uri: str


@dataclass(frozen=True)
class MomentHit(Hit):
    """A moment: score is its own, the mean cosine of its units; video_score that of its video by the method asked
    for."""

    video_score: float


HitType = TypeVar("HitType", bound=Hit)


class _Found(list[HitType]):
    """Hits of one query, best first. vector: (D,) what their moments were found by, in the space of the index that says
    where a moment is; None where nothing could be compared."""

    schema: ClassVar[pa.Schema]

    def __init__(
        self, query: str, hits: Iterable[HitType], *, exact: bool, vector: NDArray[np.float32] | None = None
    ) -> None:
        super().__init__(hits)
        self.query = query
        self.exact = exact
        self.vector = vector

    def to_arrow(self) -> pa.Table:
        """A row a hit, as `schema`."""
        rows = [{"query": self.query, "rank": i, **vars(hit)} for i, hit in enumerate(self, start=1)]
        return pa.Table.from_pylist(rows, schema=self.schema)

    def to_pandas(self) -> "pandas.DataFrame":
        return self.to_arrow().to_pandas()


class Hits(_Found[Hit]):
    """The hits of one query, best first. exact: False when candidates came from the vector index, which may miss
    some."""

    schema = HITS_SCHEMA


class MomentHits(_Found[MomentHit]):
    """The moments of one query, best first. exact: False when only the moments of videos that the vector index
    nominated were ranked, which may miss some."""

    schema = MOMENTS_SCHEMA


class ManyHits(list[Hits]):
    """The hits of many queries, in the order asked."""

    def to_arrow(self) -> pa.Table:
        """A row a hit, as `HITS_SCHEMA`."""
        return pa.concat_tables([HITS_SCHEMA.empty_table(), *(hits.to_arrow() for hits in self)])

    def to_pandas(self) -> "pandas.DataFrame":
        return self.to_arrow().to_pandas()
