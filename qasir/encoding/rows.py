"""The rows that travel between the stages of encoding, as Arrow schemas; `qasir.encoding.receipts` is what comes back
of them.

    cut_videos       plan rows -> segments: one row a stretch of a video
    decode_segments  segments -> tiles: one row a super image, its pixels; and reports: one row a segment and index
    Encoder          tiles -> encoded rows: pixels become embeddings, one row a super image and index
    write_rows       encoded rows -> written rows: one an index, of uncommitted fragments and what is in them

Reports go from the decoder to whoever commits, past the encoder and the writer, which have no use for them. One run may
feed several indexes, known by their number in the run's list. Because rows of a video may arrive in any order, in
several batches, and before or after its reports, a video is complete when all its segments have reported and as many of
its super images were written as they say.
"""

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from qasir.index.schemas import TIME
from qasir.video.corpus import VideoFile

_VIDEO = [
    ("video_id", pa.string()),
    ("uri", pa.string()),
    ("size_bytes", pa.int64()),
    ("fingerprint", pa.string()),
]
PLAN_SCHEMA = pa.schema(
    [
        *_VIDEO,
        ("problem", pa.string()),
        ("needs", pa.list_(pa.struct([("index", pa.int32()), ("committed", pa.list_(pa.int32()))]))),
    ]
)
"""A video to encode, and of each index that needs it the positions that are committed already. problem: why there is
nothing to open, where listing found out."""
_SCHEDULE = [
    ("fps", pa.float64()),
    ("max_gap_s", pa.float64()),
    ("origin", pa.int64()),
    ("first", pa.int64()),
    ("ticks", pa.list_(pa.int64())),
    ("starts", pa.list_(pa.int64())),
    ("end", pa.int64()),
]
SEGMENT_SCHEMA = pa.schema(
    [
        *PLAN_SCHEMA,
        ("segment", pa.int32()),
        ("n_segments", pa.int32()),
        ("start_s", pa.int64()),
        ("stop_s", pa.int64()),  # null: to the end of the video
        ("stated_s", pa.float64()),  # how long the video's header says it is; 0 where that is not known
        ("schedules", pa.list_(pa.struct(_SCHEDULE))),
    ]
)
"""A stretch of a video. schedules: for each keyframe sampling among the indexes, by its fps and max_gap_s, what a
`qasir.video.schedule.Schedule` holds of the stretch; none where the decoder is to find out."""
_SUPER_IMAGE = [
    ("video_id", pa.string()),
    ("fingerprint", pa.string()),
    ("position", pa.int32()),
    ("start_s", pa.float64()),
    ("end_s", pa.float64()),
    ("n_valid", pa.int32()),
    ("cell_s", pa.list_(pa.float64())),
]
SUPER_IMAGE_COLUMNS = [name for name, _ in _SUPER_IMAGE]
TILE_SCHEMA = pa.schema(
    [
        ("indexes", pa.list_(pa.int32())),  # those that want it
        *_SUPER_IMAGE,
        ("pixels", pa.large_binary()),  # uint8 (S, S, 3)
        ("thumbnail", pa.binary()),
    ]
)
REPORT_SCHEMA = pa.schema(
    [
        *_VIDEO,
        ("index", pa.int32()),
        ("segment", pa.int32()),
        ("n_segments", pa.int32()),
        ("status", pa.string()),
        ("duration_s", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("codec", pa.string()),
        ("n_sampled", pa.int32()),
        ("n_super_images", pa.int32()),
        ("n_new", pa.int32()),
        ("decode_errors", pa.int32()),
        ("error_kind", pa.string()),
        ("error", pa.string()),
        ("recorded_at", TIME),
        ("media_offset_s", pa.float64()),
        ("seconds", pa.float64()),
        ("decoder", pa.string()),
        ("fallback", pa.string()),
        ("cpu_s", pa.float64()),
        ("wait_s", pa.float64()),
        ("ended", pa.float64()),  # when decoding it ended, in seconds since the epoch
    ]
)
"""`qasir.encoding.receipts.Report`, which says what its columns mean."""
_TIMES = [
    ("encode_s", pa.float64()),  # of a row its share of the time that encoding its batch took
    ("encode_cpu_s", pa.float64()),  # and of what that took of all cores
    ("began", pa.float64()),  # when the encoding of its batch began, in seconds since the epoch
]
_FAILURE = ("failure", pa.string())
"""How a batch failed, in a row with nothing else: an exception in a worker would only lose the batch, and its failure
is the fault of no video, so it must end the job."""
ENCODED_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        *_SUPER_IMAGE,
        ("embedding", pa.binary()),  # float16, of the index's own dimension
        ("cell_embeddings", pa.binary()),
        ("thumbnail", pa.binary()),
        *_TIMES,
        _FAILURE,
    ]
)
WRITTEN_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        ("fragments", pa.list_(pa.binary())),  # pickled lance.FragmentMetadata
        (
            "videos",
            pa.list_(
                pa.struct(
                    [
                        ("video_id", pa.string()),
                        ("positions", pa.list_(pa.int32())),
                        ("total", pa.list_(pa.float64())),  # the sum of their embeddings
                    ]
                )
            ),
        ),
        (
            "not_finite",  # what was left out
            pa.list_(pa.struct([("video_id", pa.string()), ("positions", pa.list_(pa.int32()))])),
        ),
        *_TIMES,
        ("write_s", pa.float64()),
        _FAILURE,
    ]
)


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
    return pa.Table.from_pylist([{**plan_row, **cut, "schedules": []}], schema=SEGMENT_SCHEMA)


def failure_row(message: str, schema: pa.Schema) -> pa.Table:
    """The row by which a stage says that its batch failed."""
    return pa.Table.from_pylist([{"failure": message}], schema=schema)
