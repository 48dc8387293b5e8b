"""The columns of an index's three Lance tables; nowhere else are they named as a schema."""

import pyarrow as pa

from qasir.index.spec import EncoderSpec

SPEC_KEY = b"qasir.encoder_spec"
ROOT_KEY = b"qasir.corpus_root"
SOURCE_KEY = b"qasir.corpus_source"

ENCODED, FAILED = "encoded", "failed"
STALE_MARK = ("error_kind", "error", "failed_fingerprint", "attempts")
"""The columns of `videos` that say why an encoded row is not that of the newest version of its file."""


def embedding_type(dim: int) -> pa.DataType:
    return pa.list_(pa.float16(), dim)


def videos_schema(spec: EncoderSpec) -> pa.Schema:
    """One row a video, key `video_id`. `embedding` is the mean of its super images' (not normalised again).

    A changed file whose new version failed keeps its encoded row, marked stale by an `error_kind`: `failed_fingerprint`
    is the version that failed, of a failed row its own. `attempts` counts how often that version was tried.
    """
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
        pa.field("embedding", embedding_type(spec.embedding_dim)),
        pa.field("encoded_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("failed_fingerprint", pa.string()),
        pa.field("attempts", pa.int32()),
    ]
    return pa.schema(fields)


def super_images_schema(spec: EncoderSpec) -> pa.Schema:
    """One row a super image, key (video_id, fingerprint, position). Embeddings are L2-normalised before storage."""
    fields = [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("n_valid", pa.int32(), nullable=False),
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
    """One row a run of a job; `ended` is null while it runs, and `heartbeat` says that it still does."""
    fields = [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        pa.field("holder", pa.string(), nullable=False),
        pa.field("started", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("heartbeat", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("ended", pa.timestamp("us", tz="UTC")),
        pa.field("counts", pa.string()),
        pa.field("seconds", pa.string()),
        pa.field("spec", pa.string()),
        pa.field("versions", pa.string()),
    ]
    return pa.schema(fields)


def metadata(spec: EncoderSpec, corpus_root: str, corpus_source: str) -> dict[bytes, bytes]:
    """What every table of an index carries in its schema: the encoder spec, where the videos lie, and what was
    listed."""
    return {SPEC_KEY: spec.to_json().encode(), ROOT_KEY: corpus_root.encode(), SOURCE_KEY: corpus_source.encode()}
