"""Watches a graph from its first seconds for what its stages should have, and says when to begin again with that."""

from collections.abc import Iterable

import pyarrow as pa

from pipelines.workers import Workers
from qasir.encoding.bounds import Bounds, Capacity
from qasir.encoding.receipts import Receipt
from qasir.encoding.reports import Report
from qasir.encoding.throughput import Throughput

_LEAST_S, _MOST_S = 10.0, 300.0
"""From when until when a graph that works is judged. What is decoded is remembered until then."""
_WORTH = 2.0
"""How many times what beginning again costs it must save, since both are estimates."""
_LEAST_SAVED = 0.1
_TASK_S = 0.005
"""What a task costs that finds nothing to do."""


class Probe:
    """What a graph of these workers was seen to do, and the sizes to begin again with: `wanted`, None for none.

    limits: as many workers as the cluster takes (`Workers.for_cluster`). cpus, decoders: of the cluster, and how many
    decoders its memory takes. n_images: about how many super images there are to encode; n_tasks: of decoding.

    A running graph cannot be given other sizes. Another one can, at the cost of loading the models again, so it is
    begun only where that saves more than it takes: a run whose first sizes are right is never disturbed, nor is a short
    one.
    """

    def __init__(
        self, workers: Workers, limits: Workers, *, cpus: float, decoders: int, n_images: float, n_tasks: int
    ) -> None:
        self.wanted: Workers | None = None
        self._decoded: set[tuple[str, int]] = set()
        self._is_over = False
        self._seen = Throughput(capacity=workers.capacity(cpus))
        self._workers = workers
        self._limits = limits
        self._cpus = cpus
        self._decoders = decoders
        self._n_images = n_images
        self._n_tasks = n_tasks

    def knows_better(self, receipts: Iterable[Receipt]) -> bool:
        """Take what came back of the graph; whether this is when other sizes are wanted."""
        if self._is_over:
            return False
        for receipt in receipts:
            self._seen.add(receipt)
            if isinstance(receipt, Report):
                self._decoded.add((receipt.video_id, receipt.segment))
        if self.wanted is not None:
            return False
        self.wanted = self._better()
        if self.wanted is None and self._seen.working_s > _MOST_S:
            self._is_over = True
            self._decoded.clear()
        return self.wanted is not None

    def rest(self, segments: pa.Table) -> pa.Table:
        """Those of the segments that were not decoded."""
        keys = zip(segments["video_id"].to_pylist(), segments["segment"].to_pylist(), strict=True)
        return segments.filter(pa.array([key not in self._decoded for key in keys], pa.bool_()))

    def _better(self) -> Workers | None:
        seen = self._seen
        bounds = seen.bounds()
        if bounds is None or seen.working_s < _LEAST_S or len(self._decoded) < self._workers.decoders:
            return None
        wanted = self._limits.measured(
            bounds.cost, self._cpus, decoders=self._decoders, encoder_cores=seen.cpu_s["encode"] / seen.busy_s["encode"]
        )
        factor = Bounds(bounds.cost, wanted.capacity(self._cpus)).seconds() / bounds.seconds()
        left_s = seen.working_s * max(0.0, self._n_images / seen.n_encoded - 1)
        if factor > 1 - _LEAST_SAVED or left_s * (1 - factor) < _WORTH * self._cost_s:
            return None
        return wanted

    @property
    def capacity(self) -> Capacity:
        return self._workers.capacity(self._cpus)

    @property
    def _cost_s(self) -> float:
        """What beginning again takes: models, the segments that are being decoded, the tasks that are left."""
        seen, n_segments = self._seen, len(self._decoded)
        return seen.startup_s + seen.busy_s["decode"] / n_segments + _TASK_S * self._n_tasks
