"""Brings an index that an older version of the library made up to date: its columns and the number of its format."""

from collections.abc import Callable

import lance

from qasir.index.index import Index
from qasir.index.schemas import DATA_TABLES, FORMAT, FORMAT_KEY, format_of, videos_schema


def upgrade(index: Index, check: Callable[[], None]) -> None:
    """Only for whoever holds the index, which check() looks at before each change.

    What it adds, older rows satisfy. Killed in between, it goes on next time: `videos` carries the number last, which
    is where readers look for it.
    """
    videos = index.table("videos")
    if format_of(videos.schema) >= FORMAT:
        return
    new = [field for field in videos_schema(index.spec) if field.name not in videos.schema.names]
    if new:
        check()
        videos.add_columns(new)
    for name in ("runs", *reversed(DATA_TABLES)):
        check()
        _set_format(index.table(name))


def _set_format(table: lance.LanceDataset) -> None:
    table.update_schema_metadata({FORMAT_KEY.decode(): str(FORMAT)})
