"""QASIR: finds the moment you mean in a pile of long videos, from super images (arXiv 2312.00414)."""

import os

os.environ.setdefault("LANCE_LOG", "error")  # Lance reports every new table as a warning

from qasir.errors import QasirError
from qasir.search import Hit, IndexSearcher, open_index

__all__ = ["Hit", "IndexSearcher", "QasirError", "open_index"]
