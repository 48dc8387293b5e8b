"""Which stored vectors are finite: NaN and infinite ones are never stored, and count for nothing where an older version
of the library did."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.index.snapshot import matrix

_ROWS_AT_ONCE = 1 << 16
_EXPONENT = 0x7C00
"""The bits that a float16 has all set when it is NaN or infinite."""


def is_finite(stored: NDArray[np.float16]) -> NDArray[np.bool_]:
    """(n,) whether all numbers of each row (D,) are finite, by the bits of their exponents: a quarter of the time that
    asking NumPy for each number takes."""
    found = np.empty(len(stored), np.bool_)
    for low in range(0, len(stored), _ROWS_AT_ONCE):
        bits = np.ascontiguousarray(stored[low : low + _ROWS_AT_ONCE]).view(np.uint16) & _EXPONENT
        found[low : low + _ROWS_AT_ONCE] = bits.max(axis=1) != _EXPONENT
    return found


def finite_rows(rows: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) whether a row's vectors in all these columns are finite."""
    columns = [rows[name] for name in names]
    return np.logical_and.reduce([is_finite(matrix(column, column.type.list_size)) for column in columns])
