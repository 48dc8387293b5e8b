"""Where a run's time went, stage by stage, and what bounded it."""

import time
from dataclasses import dataclass, field
from typing import Any

from qasir.encoding.bounds import Bounds, Capacity, Cost
from qasir.encoding.receipts import Receipt
from qasir.encoding.reports import Report

_BUSY = 0.9
"""From what share of their time on cores are what decoders wait for, whatever else they seem to wait for: a system that
gives a process so much of a core and no more makes it wait."""
_OTHERS = {
    "write": "writing bounds this: faster storage would shorten it",
    "commit": "committing bounds this: less often, or to faster storage, would shorten it",
}


@dataclass(frozen=True)
class Probed:
    """What was seen of a run before its stages got other sizes; its time is start-up. busy_s as of `Throughput`."""

    capacity: Capacity
    ended: float
    busy_s: dict[str, float]
    cpu_s: float


@dataclass
class Throughput:
    """Seconds that stages were busy, summed over their workers, against the seconds the run took.

    grid: N of all indexes, None where they differ. capacity: what works at once, None where nothing is decoded. cpu_s:
    what stages had of cores; wait_s: what decoders waited for other than a core. n_decoded, n_encoded: super images.
    Start-up is what passes before the first batch is encoded: Ray, models, the first segment; and the probe, where its
    measurements gave the stages other sizes.
    """

    grid: int | None = None
    capacity: Capacity | None = None
    busy_s: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "encode": 0.0, "write": 0.0, "commit": 0.0}
    )
    cpu_s: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "encode": 0.0})
    wait_s: float = 0.0
    n_decoded: int = 0
    n_encoded: int = 0
    began: float = field(default_factory=time.time)
    first_batch: float | None = None
    ended: float | None = None
    probed: Probed | None = None

    def add(self, receipt: Receipt) -> None:
        if isinstance(receipt, Report):
            self.busy_s["decode"] += receipt.seconds
            self.cpu_s["decode"] += receipt.cpu_s
            self.wait_s += receipt.wait_s
            self.n_decoded += receipt.n_new
            return
        for stage, seconds in receipt.seconds.items():
            self.busy_s[stage] += seconds
        self.cpu_s["encode"] += receipt.encode_cpu_s
        self.n_encoded += sum(len(positions) for _, positions in receipt.positions())
        if receipt.began is not None:
            self.first_batch = min(receipt.began, self.first_batch or receipt.began)

    def begin_again(self, capacity: Capacity) -> None:
        """All until now was a probe, of stages of this capacity: they begin again with other sizes."""
        self.probed = Probed(capacity, time.time(), dict(self.busy_s), sum(self.cpu_s.values()))
        self.first_batch = None

    @property
    def startup_s(self) -> float:
        return max(0.0, (self.first_batch or self._end) - self.began)

    @property
    def working_s(self) -> float:
        """What passed since start-up."""
        return max(1e-9, self._end - self.began - self.startup_s)

    @property
    def _end(self) -> float:
        return self.ended or time.time()

    @property
    def workers(self) -> dict[str, int]:
        """{stage: how many}."""
        return {} if self.capacity is None else {"decode": self.capacity.decoders, "encode": self.capacity.encoders}

    def utilisation(self) -> dict[str, float]:
        """{stage: share of the time after start-up that its workers were busy}."""
        before = self.probed.busy_s if self.probed is not None else {}
        return {
            stage: min(1.0, (busy - before.get(stage, 0.0)) / (self.working_s * max(1, self.workers.get(stage, 1))))
            for stage, busy in self.busy_s.items()
        }

    def bounds(self) -> Bounds | None:
        """What decoding and encoding cost here, for each super image, and which bounds; None before both are known."""
        if self.capacity is None or not self.n_decoded or not self.n_encoded:
            return None
        encode_s = (self.cpu_s if self.capacity.shares_cores else self.busy_s)["encode"]
        cost = Cost(
            decode_cpu_s=self.cpu_s["decode"] / self.n_decoded,
            encode_s=encode_s / self.n_encoded,
            images=1.0,
            decode_wait_s=0.0 if self._are_cores_busy else self.wait_s / self.n_decoded,
        )
        return Bounds(cost, self.capacity)

    @property
    def _are_cores_busy(self) -> bool:
        assert self.capacity is not None
        before = self.probed.cpu_s if self.probed is not None else 0.0
        return sum(self.cpu_s.values()) - before >= _BUSY * self.capacity.cores * self.working_s

    @property
    def bottleneck(self) -> str | None:
        """The stage that held up the others: what bounds decoding and encoding, or what took longer than that."""
        if not any(self.busy_s.values()):
            return None
        bounds = self.bounds()
        if bounds is None:
            shares = self.utilisation()
            return max(shares, key=lambda stage: shares[stage])
        alone_s = {"write": self.busy_s["write"] / bounds.capacity.decoders, "commit": self.busy_s["commit"]}
        longest = max(alone_s, key=lambda stage: alone_s[stage])
        return longest if alone_s[longest] > bounds.seconds(self.n_encoded) else bounds.stage

    @property
    def sentence(self) -> str | None:
        """What bounded the run, and what that means; None where nothing was encoded."""
        bounds, bottleneck = self.bounds(), self.bottleneck
        if bounds is None or bottleneck is None:
            return None
        said = _OTHERS.get(bottleneck) or bounds.sentence(self.grid)
        if self.startup_s <= self.working_s:
            return said
        return f"start-up took {self.startup_s:.0f} of {self._end - self.began:.0f} s; after it, {said}"

    def facts(self) -> dict[str, Any]:
        return {
            "startup_s": round(self.startup_s, 2),
            "busy_s": {stage: round(busy, 4) for stage, busy in self.busy_s.items()},
            "cpu_s": {stage: round(cpu, 4) for stage, cpu in self.cpu_s.items()},
            "workers": self.workers,
            "probe": None if self.probed is None else self._probe(self.probed),
            "utilisation": {stage: round(share, 3) for stage, share in self.utilisation().items()},
            "bottleneck": self.bottleneck,
            "bounds": self.sentence,
        }

    def _probe(self, probed: Probed) -> dict[str, Any]:
        workers = {"decode": probed.capacity.decoders, "encode": probed.capacity.encoders}
        return {"workers": workers, "seconds": round(probed.ended - self.began, 2)}
