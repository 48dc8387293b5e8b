"""The rows that travel between the stages of encoding: plan rows, segments, tiles, encoded rows, receipts.

    cut_videos       plan rows -> segments: one row a stretch of a video
    decode_segments  segments -> tiles: one row a super image (its pixels), then one report row an index
    Encoder          tiles -> encoded rows: pixels become embeddings, one row a super image and index; reports pass through
    write_rows       encoded rows -> one receipt an index: uncommitted fragments, positions and sums a video, reports

One run may feed several indexes; they are known by their number in the run's list. A report row (position -1) carries what
an index's `videos` needs to know of one segment. Because rows of a video may arrive in any order and in several batches, a
video is complete when all its segments have reported and as many of its super images were written as they say.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray

from qasir.errors import QasirError
from qasir.index.schemas import FAILED
from qasir.video.corpus import VideoFile

REPORT = -1
"""The position of a report row."""
BROKEN = -2
"""The position of a row that says in `report` how an encoder failed: the fault of no video, so it must end the job."""
SECONDS = -3
"""The position of a row that says in `report` how long an encoder took for a batch."""
MAX_INDEXES = 63
"""How many indexes one run can feed: a tile says in the bits of an int64 which of them want it."""

_VIDEO = [
    ("video_id", pa.string()),
    ("uri", pa.string()),
    ("size_bytes", pa.int64()),
    ("fingerprint", pa.string()),
    ("needs", pa.list_(pa.struct([("index", pa.int32()), ("committed", pa.list_(pa.int32()))]))),
]
PLAN_SCHEMA = pa.schema(_VIDEO)
SEGMENT_SCHEMA = pa.schema(
    [
        *_VIDEO,
        ("segment", pa.int32()),
        ("n_segments", pa.int32()),
        ("start_s", pa.int64()),
        ("stop_s", pa.int64()),  # null: to the end of the video
        ("stated_s", pa.float64()),  # how long the video's header says it is; 0 where that is not known
    ]
)
_SUPER_IMAGE = [
    ("video_id", pa.string()),
    ("fingerprint", pa.string()),
    ("position", pa.int32()),
    ("start_s", pa.float64()),
    ("end_s", pa.float64()),
    ("n_valid", pa.int32()),
]
TILE_SCHEMA = pa.schema(
    [
        ("indexes", pa.int64()),  # bit i: index i wants it
        *_SUPER_IMAGE,
        ("side", pa.int32()),
        ("pixels", pa.large_binary()),
        ("thumbnail", pa.binary()),
        ("report", pa.string()),
    ]
)
ENCODED_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        *_SUPER_IMAGE,
        ("embedding", pa.binary()),  # float16, of the index's own dimension
        ("cell_embeddings", pa.binary()),
        ("thumbnail", pa.binary()),
        ("report", pa.string()),
    ]
)
RECEIPT_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        ("fragments", pa.string()),
        ("positions", pa.string()),
        ("sums", pa.binary()),
        ("reports", pa.string()),
        ("seconds", pa.string()),
        ("broken", pa.string()),
    ]
)


@dataclass(frozen=True)
class Report:
    """What became of one segment of a video for one index; the segments of a video add up to its row of `videos`.

    duration_s is known only where the segment reached the end of the video. n_sampled and n_super_images count the
    segment's own, n_new the super images sent on to be encoded; seconds is the time decoding took.
    """

    video_id: str
    uri: str
    size_bytes: int
    fingerprint: str
    status: str
    index: int = 0
    segment: int = 0
    n_segments: int = 1
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    codec: str | None = None
    n_sampled: int = 0
    n_super_images: int = 0
    n_new: int = 0
    decode_errors: int = 0
    error_kind: str | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.status == FAILED


def plan_table(videos: list[VideoFile], needs: dict[str, dict[int, list[int]]]) -> pa.Table:
    """Videos to encode, each with {index: positions already committed} for the indexes that need it."""
    rows = [
        {**asdict(video), "needs": [{"index": i, "committed": at} for i, at in needs[video.video_id].items()]}
        for video in videos
    ]
    return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)


def whole_video(plan_row: dict[str, Any]) -> pa.Table:
    """A plan row as its video's only segment."""
    cut = {"segment": 0, "n_segments": 1, "start_s": 0, "stop_s": None, "stated_s": 0.0}
    return pa.Table.from_pylist([{**plan_row, **cut}], schema=SEGMENT_SCHEMA)


@dataclass(frozen=True)
class Receipt:
    """What one written batch holds for one index: fragments to commit, {video_id: (positions, sum of embeddings)}, reports.

    seconds: {stage: time it took for the batch}, "began": when its encoding began (seconds since the epoch).
    """

    index: int
    fragments: list[FragmentMetadata]
    written: dict[str, tuple[list[int], NDArray[np.float64]]]
    reports: list[Report] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, row: dict[str, Any]) -> "Receipt":
        """Raises QasirError when the batch could not be encoded or written."""
        if row["broken"]:
            raise QasirError(row["broken"])
        positions: dict[str, list[int]] = json.loads(row["positions"])
        sums = np.frombuffer(row["sums"], dtype=np.float64)
        if positions:
            sums = sums.reshape(len(positions), -1)
        fragments = [FragmentMetadata.from_json(_text(fragment)) for fragment in json.loads(row["fragments"])]
        return cls(
            index=row["index"],
            fragments=fragments,
            written={video: (at, total) for (video, at), total in zip(positions.items(), sums, strict=True)},
            reports=[Report(**report) for report in json.loads(row["reports"])],
            seconds=json.loads(row["seconds"]),
        )


def _text(fragment: Any) -> str:
    return fragment if isinstance(fragment, str) else json.dumps(fragment)
