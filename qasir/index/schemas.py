"""The columns of an index's three Lance tables; nowhere else are they named as a schema."""

import pyarrow as pa

from qasir.index.spec import EncoderSpec

SPEC_KEY = b"qasir.encoder_spec"
ROOT_KEY = b"qasir.corpus_root"
SOURCE_KEY = b"qasir.corpus_source"
FORMAT_KEY = b"qasir.format"

FORMAT = 3
"""The newest number of a layout of the tables that this library reads. Raised when an older library would misread an
index; the next writer brings an index of an older number up to date (`qasir.index.formats`). 1, without a number: no
epochs, no stale videos. 2: samples 1 / fps apart, `cell_s` or not. 3: samples at keyframes, whose times only `cell_s`
tells."""
PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
"""Lance lets only one of two rows with one such key in, even when both are inserted at once."""

TIME = pa.timestamp("us", tz="UTC")
DATA_TABLES = ("videos", "super_images")
ENCODED, FAILED = "encoded", "failed"
STALE_MARK = ("error_kind", "error", "failed_fingerprint", "attempts")
"""The columns of `videos` that say why an encoded row is not that of the newest version of its file."""


def format_of(schema: pa.Schema) -> int:
    return int((schema.metadata or {}).get(FORMAT_KEY, b"1"))


def format_for(spec: EncoderSpec) -> int:
    """The lowest number that says all that reading rows of this spec takes, so that no library that can read them
    refuses them."""
    return 2 if spec.sampling == "uniform" else 3


def embedding_type(dim: int) -> pa.DataType:
    return pa.list_(pa.float16(), dim)


def videos_schema(spec: EncoderSpec) -> pa.Schema:
    """One row a video, key `video_id`. `embedding` is the mean of its super images' (not normalised again).

    A changed file whose new version failed keeps its encoded row, marked stale by an `error_kind`: `failed_fingerprint`
    is the version that failed, of a failed row its own. `attempts` counts how often that version was tried.

    `modified_at` is when the file was changed last, `recorded_at` when the video was recorded, `media_offset_s` what a
    player's time is at the first displayed frame. Null where nothing says so, and the last two in rows that an older
    library wrote.
    """
    return videos_columns(spec.embedding_dim)


def videos_columns(dim: int) -> pa.Schema:
    """Of `videos`, with embeddings of `dim` numbers."""
    fields = [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("duration_s", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("codec", pa.string()),
        pa.field("n_sampled", pa.int32()),
        pa.field("n_super_images", pa.int32()),
        pa.field("decode_errors", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_kind", pa.string()),
        pa.field("error", pa.string()),
        pa.field("embedding", embedding_type(dim)),
        pa.field("encoded_at", TIME, nullable=False),
        pa.field("failed_fingerprint", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("modified_at", TIME),
        pa.field("recorded_at", TIME),
        pa.field("media_offset_s", pa.float64()),
    ]
    return pa.schema(fields)


def super_images_schema(spec: EncoderSpec) -> pa.Schema:
    """One row a super image, key (video_id, fingerprint, position). Embeddings are L2-normalised before storage.

    `cell_s` is the time of each filled cell, n_valid of them; null in rows that an older library wrote, whose samples
    were 1 / fps apart (`qasir.index.cell_times` reads both).
    """
    fields = [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("n_valid", pa.int32(), nullable=False),
        pa.field("cell_s", pa.list_(pa.float64())),
        pa.field("embedding", embedding_type(spec.embedding_dim), nullable=False),
    ]
    if spec.gates:
        fields.append(pa.field("gate_embedding", embedding_type(spec.embedding_dim), nullable=False))
    if spec.cells:
        fields.append(pa.field("cell_embeddings", embedding_type(spec.grid**2 * spec.embedding_dim), nullable=False))
    if spec.thumbnails:
        fields.append(pa.field("thumbnail", pa.binary(), nullable=False))
    return pa.schema(fields)


def runs_schema() -> pa.Schema:
    """One row a run of a job, key `epoch`: the number of runs that held the index before.

    `ended` is null while it runs; `beat` counts up meanwhile, at least once in `lease_s` seconds. `heard_s` is that
    beat on the clock of the machine's boot, `heartbeat` for people. `process` is the holder as JSON
    (`qasir.index.process`). `clean`, of a run that left everything right, is JSON: of each data table its version and
    the last fragment. Rows that an older library wrote have epoch 0.
    """
    fields = [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        pa.field("holder", pa.string(), nullable=False),
        pa.field("started", TIME, nullable=False),
        pa.field("heartbeat", TIME, nullable=False),
        pa.field("ended", TIME),
        pa.field("counts", pa.string()),
        pa.field("seconds", pa.string()),
        pa.field("spec", pa.string()),
        pa.field("versions", pa.string()),
        pa.field("epoch", pa.int64(), nullable=False, metadata=PRIMARY_KEY),
        pa.field("process", pa.string()),
        pa.field("beat", pa.int64()),
        pa.field("heard_s", pa.float64()),
        pa.field("lease_s", pa.float64()),
        pa.field("clean", pa.string()),
    ]
    return pa.schema(fields)


def metadata(spec: EncoderSpec, corpus_root: str, corpus_source: str) -> dict[bytes, bytes]:
    """What every table of an index carries in its schema: the encoder spec, where the videos lie, what was listed, and
    the format's number."""
    return {
        SPEC_KEY: spec.to_json().encode(),
        ROOT_KEY: corpus_root.encode(),
        SOURCE_KEY: corpus_source.encode(),
        FORMAT_KEY: str(format_for(spec)).encode(),
    }
