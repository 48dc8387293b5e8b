"""How the tables of this training are opened and written."""

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata

SHAPE = b"qasir.frames"
"""Where a table's schema says what its rows hold, as JSON."""
_CACHE_BYTES = 16 << 20


def opened(uri: str, version: int | None = None) -> lance.LanceDataset:
    """With small caches: Lance keeps decoded pages of equal values (moments that are still 0), up to a gibibyte of
    them."""
    return lance.dataset(
        uri, version=version, index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES
    )


def overwrite(uri: str, schema: pa.Schema, fragments: list[FragmentMetadata]) -> None:
    lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(schema, fragments))
