"""The rows that travel between the stages of encoding: plan rows, tiles, encoded rows, receipts.

    decode_videos   plan rows -> tiles: one row a super image (its pixels), then one report row a video
    Encoder         tiles -> encoded rows: pixels become embeddings; report rows pass through
    write_rows      encoded rows -> one receipt: uncommitted fragments, positions and sums a video, reports

A report row (position -1) carries what `videos` needs to know of one video. Because rows of a video may arrive in any
order and in several batches, a video is complete when as many of its super images were written as its report says.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray

from qasir.corpus import VideoFile
from qasir.errors import QasirError
from qasir.tables import FAILED

REPORT = -1
"""The position of a report row."""
BROKEN = -2
"""The position of a row that says in `report` how an encoder failed: the fault of no video, so it must end the job."""

PLAN_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("size_bytes", pa.int64()),
        ("fingerprint", pa.string()),
        ("committed", pa.list_(pa.int32())),
    ]
)
TILE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("fingerprint", pa.string()),
        ("position", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("n_valid", pa.int32()),
        ("pixels", pa.large_binary()),
        ("thumbnail", pa.binary()),
        ("report", pa.string()),
    ]
)
RECEIPT_SCHEMA = pa.schema(
    [
        ("fragments", pa.string()),
        ("positions", pa.string()),
        ("sums", pa.binary()),
        ("reports", pa.string()),
        ("broken", pa.string()),
    ]
)


@dataclass(frozen=True)
class Report:
    """What became of one video: a row of `videos` less its embedding."""

    video_id: str
    uri: str
    size_bytes: int
    fingerprint: str
    status: str
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    codec: str | None = None
    n_sampled: int = 0
    n_super_images: int = 0
    decode_errors: int = 0
    error_kind: str | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        return self.status == FAILED


def plan_table(videos: list[VideoFile], committed: dict[str, list[int]]) -> pa.Table:
    """Videos to encode, each with the positions already committed under its present fingerprint."""
    rows = [{**asdict(video), "committed": committed.get(video.video_id, [])} for video in videos]
    return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)


@dataclass(frozen=True)
class Receipt:
    """What one written batch holds: fragments to commit, {video_id: (positions, sum of embeddings)}, reports."""

    fragments: list[FragmentMetadata]
    written: dict[str, tuple[list[int], NDArray[np.float64]]]
    reports: list[Report] = field(default_factory=list)

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
            fragments=fragments,
            written={video: (at, total) for (video, at), total in zip(positions.items(), sums, strict=True)},
            reports=[Report(**report) for report in json.loads(row["reports"])],
        )


def _text(fragment: Any) -> str:
    return fragment if isinstance(fragment, str) else json.dumps(fragment)
