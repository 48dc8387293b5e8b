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
    from qasir.retrieval.asking import Like, Picture
    from qasir.retrieval.hits import Hit, Hits, ManyHits, MomentHit, MomentHits
    from qasir.retrieval.methods.attention import Attention
    from qasir.retrieval.methods.cascade import Cascade
    from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
    from qasir.retrieval.methods.fusion import Fusion
    from qasir.retrieval.methods.maximum import Max
    from qasir.retrieval.methods.mean import Mean
    from qasir.retrieval.methods.method import Method
    from qasir.retrieval.methods.sparse import Sparse
    from qasir.retrieval.methods.text_gated import TextGated
    from qasir.retrieval.methods.weighted import Weighted
    from qasir.retrieval.moments import MomentRule
    from qasir.retrieval.opening import open_hybrid, open_index, open_tables
    from qasir.retrieval.searcher import Searcher

_WHERE = {
    "Attention": "retrieval.methods.attention",
    "Cascade": "retrieval.methods.cascade",
    "CoarseToFine": "retrieval.methods.coarse_to_fine",
    "EncodeOptions": "encoding.options",
    "EncodeSummary": "encoding.run",
    "EncoderOptions": "encoding.options",
    "Fusion": "retrieval.methods.fusion",
    "Hit": "retrieval.hits",
    "Hits": "retrieval.hits",
    "Like": "retrieval.asking",
    "ManyHits": "retrieval.hits",
    "Max": "retrieval.methods.maximum",
    "Mean": "retrieval.methods.mean",
    "Method": "retrieval.methods.method",
    "MomentHit": "retrieval.hits",
    "MomentHits": "retrieval.hits",
    "MomentRule": "retrieval.moments",
    "Picture": "retrieval.asking",
    "QasirError": "errors",
    "Searcher": "retrieval.searcher",
    "Snapshot": "index.snapshot",
    "Sparse": "retrieval.methods.sparse",
    "TextGated": "retrieval.methods.text_gated",
    "Weighted": "retrieval.methods.weighted",
    "encode": "encoding.encode",
    "open_hybrid": "retrieval.opening",
    "open_index": "retrieval.opening",
    "open_tables": "retrieval.opening",
}

__all__ = [
    "Attention",
    "Cascade",
    "CoarseToFine",
    "EncodeOptions",
    "EncodeSummary",
    "EncoderOptions",
    "Fusion",
    "Hit",
    "Hits",
    "Like",
    "ManyHits",
    "Max",
    "Mean",
    "Method",
    "MomentHit",
    "MomentHits",
    "MomentRule",
    "Picture",
    "QasirError",
    "Searcher",
    "Snapshot",
    "Sparse",
    "TextGated",
    "Weighted",
    "encode",
    "open_hybrid",
    "open_index",
    "open_tables",
]

os.environ.setdefault("LANCE_LOG", "error")  # Lance reports every new table as a warning


def __getattr__(name: str) -> Any:
    """Public names load on first use: a decoding worker imports this package but must not wait for torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'qasir' has no attribute {name!r}")
    return getattr(import_module(f"qasir.{_WHERE[name]}"), name)
