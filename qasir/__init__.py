"""QASIR: finds the moment you mean in a pile of long videos, from super images (arXiv 2312.00414)."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qasir.coarse_to_fine import CoarseToFine
    from qasir.errors import QasirError
    from qasir.hybrid import Cascade, Fusion, HybridSearcher, open_hybrid
    from qasir.scoring import Scoring
    from qasir.search import Hit, Hits, IndexSearcher, ManyHits, open_index, open_tables
    from qasir.snapshot import Snapshot

__all__ = [
    "Cascade",
    "CoarseToFine",
    "Fusion",
    "Hit",
    "Hits",
    "HybridSearcher",
    "IndexSearcher",
    "ManyHits",
    "QasirError",
    "Scoring",
    "Snapshot",
    "open_hybrid",
    "open_index",
    "open_tables",
]

_WHERE = {
    "QasirError": "errors",
    "CoarseToFine": "coarse_to_fine",
    "Cascade": "hybrid",
    "Fusion": "hybrid",
    "HybridSearcher": "hybrid",
    "open_hybrid": "hybrid",
    "Scoring": "scoring",
    "Snapshot": "snapshot",
}

os.environ.setdefault("LANCE_LOG", "error")  # Lance reports every new table as a warning


def __getattr__(name: str) -> Any:
    """Public names load on first use: a decoding worker imports this package but must not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'qasir' has no attribute {name!r}")
    return getattr(import_module(f"qasir.{_WHERE.get(name, 'search')}"), name)
