"""QASIR: finds the moment you mean in a pile of long videos, from super images (arXiv 2312.00414)."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qasir.errors import QasirError
    from qasir.search import Hit, IndexSearcher, open_index

__all__ = ["Hit", "IndexSearcher", "QasirError", "open_index"]

os.environ.setdefault("LANCE_LOG", "error")  # Lance reports every new table as a warning


def __getattr__(name: str) -> Any:
    """Public names load on first use: a decoding worker imports this package but must not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'qasir' has no attribute {name!r}")
    from qasir import errors, search

    return getattr(errors if name == "QasirError" else search, name)
