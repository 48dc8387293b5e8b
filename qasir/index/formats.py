"""Brings an index that an older version of the library made up to date: its columns and the number of its format."""

from collections.abc import Callable

import lance
import pyarrow as pa

from qasir.index.index import Index
from qasir.index.schemas import DATA_TABLES, FORMAT_KEY, format_for, format_of, super_images_schema, videos_schema
from qasir.video.video_file import modified_at

MODIFIED = "modified_at"


def upgrade(index: Index, check: Callable[[], None]) -> None:
    """Only for whoever holds the index, which check() looks at before each change.

    What it adds, older rows satisfy; `modified_at` follows from their fingerprints. Killed in between, it goes on next
    time: `videos` carries the number last, which is where readers look for it.
    """
    videos = index.table("videos")
    super_images = index.table("super_images")
    later = _missing(super_images, super_images_schema(index.spec))
    if later:
        check()
        super_images.add_columns(list(later.values()))
    new = _missing(videos, videos_schema(index.spec))
    modified = new.pop(MODIFIED, None)
    if new:
        check()
        videos.add_columns(list(new.values()))
    if modified is not None:
        check()
        videos.add_columns(_modified(modified), read_columns=["fingerprint"])
    number = format_for(index.spec)
    if format_of(videos.schema) < number:
        for name in ("runs", *reversed(DATA_TABLES)):
            check()
            index.table(name).update_schema_metadata({FORMAT_KEY.decode(): str(number)})


def _missing(table: lance.LanceDataset, schema: pa.Schema) -> dict[str, pa.Field]:
    """{name: field} of the columns that an older library did not know."""
    return {field.name: field for field in schema if field.name not in table.schema.names}


def _modified(field: pa.Field) -> lance.udf.BatchUDF:
    schema = pa.schema([field])

    @lance.batch_udf(output_schema=schema)
    def column(rows: pa.RecordBatch) -> pa.RecordBatch:
        times = [modified_at(fingerprint) for fingerprint in rows["fingerprint"].to_pylist()]
        return pa.record_batch([pa.array(times, field.type)], schema=schema)

    return column
