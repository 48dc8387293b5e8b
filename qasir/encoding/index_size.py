"""How large an index will be, column by column, before there is one."""

from collections.abc import Mapping

import pyarrow as pa

from qasir.index.schemas import super_images_schema, videos_schema
from qasir.index.spec import EncoderSpec

_TEXT = {"status": 7.0, "codec": 4.0}
_OFFSET = 4
"""Bytes a value of no fixed length takes beside itself."""


def index_bytes(
    spec: EncoderSpec, *, n_videos: float, n_super_images: float, lengths: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """{table: {column: bytes}} of an index of so many rows, uncompressed. Lance takes a little less of what repeats, as
    ids do, and some kilobytes a commit for its own files.

    lengths: bytes that values of text and binary columns have in the mean.
    """
    known = {**_TEXT, "cell_s": 8.0 * spec.frames_per_super_image, **lengths}
    tables = {"super_images": (super_images_schema(spec), n_super_images), "videos": (videos_schema(spec), n_videos)}
    return {
        table: {field.name: n * _value_bytes(field, known) for field in schema} for table, (schema, n) in tables.items()
    }


def _value_bytes(field: pa.Field, lengths: Mapping[str, float]) -> float:
    kind = field.type
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size * kind.value_type.bit_width / 8
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind):
        length = lengths.get(field.name, 0.0)  # none where every value is null, as errors are
        return length + _OFFSET if length else 0.0
    return kind.bit_width / 8
