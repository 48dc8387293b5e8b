"""QASIR: finds the moment you mean in a pile of long videos, from super images (arXiv 2312.00414)."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qasir.encoding.encode import encode
    from qasir.encoding.options import EncodeOptions, EncoderOptions
    from qasir.encoding.run import EncodeSummary
    from qasir.errors import QasirError
    from qasir.index.snapshot import Snapshot
    from qasir.retrieval.coarse_to_fine import CoarseToFine
    from qasir.retrieval.hybrid import Cascade, Fusion, HybridSearcher, open_hybrid
    from qasir.retrieval.scoring import Scoring
    from qasir.retrieval.searcher import Hit, Hits, IndexSearcher, ManyHits, open_index, open_tables

__all__ = [
    "Cascade",
    "CoarseToFine",
    "EncodeOptions",
    "EncodeSummary",
    "EncoderOptions",
    "Fusion",
    "Hit",
    "Hits",
    "HybridSearcher",
    "IndexSearcher",
    "ManyHits",
    "QasirError",
    "Scoring",
    "Snapshot",
    "encode",
    "open_hybrid",
    "open_index",
    "open_tables",
]

_WHERE = {
    "encode": "encoding.encode",
    "EncodeOptions": "encoding.options",
    "EncodeSummary": "encoding.run",
    "EncoderOptions": "encoding.options",
    "QasirError": "errors",
    "Snapshot": "index.snapshot",
    "CoarseToFine": "retrieval.coarse_to_fine",
    "Cascade": "retrieval.hybrid",
    "Fusion": "retrieval.hybrid",
    "HybridSearcher": "retrieval.hybrid",
    "open_hybrid": "retrieval.hybrid",
    "Scoring": "retrieval.scoring",
}

os.environ.setdefault("LANCE_LOG", "error")  # Lance reports every new table as a warning


def __getattr__(name: str) -> Any:
    """Public names load on first use: a decoding worker imports this package but must not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'qasir' has no attribute {name!r}")
    return getattr(import_module(f"qasir.{_WHERE.get(name, 'retrieval.searcher')}"), name)
