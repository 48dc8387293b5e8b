"""What runs the stages of encoding: a plain loop (`qasir.encoding.plain_loop`) or Ray Data (`pipelines.encode`)."""

from collections.abc import Generator, Sequence
from typing import Protocol

import pyarrow as pa

from qasir.encoding.bounds import Capacity
from qasir.encoding.receipts import Receipt, Resized
from qasir.encoding.watched import Death


class Stages(Protocol):
    """The stages for a run's indexes, on whatever runs them."""

    @property
    def capacity(self) -> Capacity | None:
        """How many workers the stages have, known once `run` has begun; None where nothing is decoded."""
        ...

    def run(self, plan: pa.Table) -> Generator[Receipt | Resized, None, None]:
        """Plan rows -> receipts, as they come: cut, decode and tile, encode, write. What a dead worker took along is
        just missing. After `Resized` the stages go on with other sizes.

        Raises QasirError when an encoder or a writer reports an error of its own.
        """
        ...

    def alone(self, segments: Sequence[pa.Table]) -> list[Death | None]:
        """How a process that decodes nothing but this, on the CPU, ended, for each; None where it ended by itself. From
        then on all is decoded on the CPU."""
        ...
