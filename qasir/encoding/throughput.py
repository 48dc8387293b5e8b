"""Where a run's time went, stage by stage, and which stage was the bottleneck."""

import time
from dataclasses import dataclass, field
from typing import Any

from qasir.encoding.receipts import Receipt
from qasir.encoding.reports import Report


@dataclass
class Throughput:
    """Seconds that stages were busy, summed over their workers, against the seconds the run took.

    workers: {stage: how many}. Start-up is what passes before the first batch is encoded: Ray, models, the first
    segment.
    """

    workers: dict[str, int] = field(default_factory=dict)
    busy_s: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "encode": 0.0, "write": 0.0, "commit": 0.0}
    )
    began: float = field(default_factory=time.time)
    first_batch: float | None = None
    ended: float | None = None

    def add(self, receipt: Receipt) -> None:
        if isinstance(receipt, Report):
            self.busy_s["decode"] += receipt.seconds
            return
        for stage, seconds in receipt.seconds.items():
            self.busy_s[stage] += seconds
        if receipt.began is not None:
            self.first_batch = min(receipt.began, self.first_batch or receipt.began)

    @property
    def startup_s(self) -> float:
        return max(0.0, (self.first_batch or self._end) - self.began)

    @property
    def _end(self) -> float:
        return self.ended or time.time()

    def utilisation(self) -> dict[str, float]:
        """{stage: share of the time after start-up that its workers were busy}."""
        working_s = max(1e-9, self._end - self.began - self.startup_s)
        return {
            stage: min(1.0, busy / (working_s * max(1, self.workers.get(stage, 1))))
            for stage, busy in self.busy_s.items()
        }

    @property
    def bottleneck(self) -> str | None:
        """The busiest stage: the one to give more workers."""
        shares = self.utilisation()
        return max(shares, key=lambda stage: shares[stage]) if any(self.busy_s.values()) else None

    def facts(self) -> dict[str, Any]:
        return {
            "startup_s": round(self.startup_s, 2),
            "busy_s": {stage: round(busy, 4) for stage, busy in self.busy_s.items()},
            "workers": self.workers,
            "utilisation": {stage: round(share, 3) for stage, share in self.utilisation().items()},
            "bottleneck": self.bottleneck,
        }
