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


@dataclass(frozen=True)
class _Stretch:
    """Something that a stage was at until `ended` (seconds since the epoch), for so many seconds."""

    stage: str
    ended: float
    busy_s: float
    cpu_s: float

    def share_before(self, moment: float) -> float:
        """How much of it was before then, taken to be in one piece."""
        if not self.busy_s:
            return float(self.ended <= moment)
        return min(1.0, max(0.0, (moment - (self.ended - self.busy_s)) / self.busy_s))


@dataclass
class Throughput:
    """Seconds that stages were busy, summed over their workers, against the seconds the run took.

    grid: N of all indexes, None where they differ. capacity: what works at once, None where nothing is decoded. cpu_s:
    what stages had of cores; wait_s: what decoders waited for other than a core. n_decoded, n_encoded: super images.
    Start-up is what passes before the first batch is encoded: Ray, models, the first segment; and the probe, where its
    measurements gave the stages other sizes. last_commit_s: what the last commit took, which is made once all else is
    done, however often there are others.
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
    last_commit_s: float = 0.0
    _early: list[_Stretch] = field(default_factory=list)
    """What began before the first batch, or may have, since the probe if there was one."""

    def add(self, receipt: Receipt) -> None:
        if isinstance(receipt, Report):
            self._count(_Stretch("decode", receipt.ended or time.time(), receipt.seconds, receipt.cpu_s))
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

    def committed(self, seconds: float) -> None:
        """A commit that ends now took so long."""
        self._count(_Stretch("commit", time.time(), seconds, 0.0))
        self.last_commit_s = seconds

    def _count(self, stretch: _Stretch) -> None:
        self.busy_s[stretch.stage] += stretch.busy_s
        if self.first_batch is None or stretch.share_before(self.first_batch):
            self._early.append(stretch)

    def begin_again(self, capacity: Capacity) -> None:
        """All until now was a probe, of stages of this capacity: they begin again with other sizes."""
        self.probed = Probed(capacity, time.time(), dict(self.busy_s), sum(self.cpu_s.values()))
        self.first_batch = None
        self._early.clear()

    @property
    def startup_s(self) -> float:
        return max(0.0, (self.first_batch or self._end) - self.began)

    @property
    def working_s(self) -> float:
        """What passed since start-up; of a run that encoded nothing, all of it."""
        return max(1e-9, self._end - (self.first_batch or self.began))

    @property
    def _end(self) -> float:
        return self.ended or time.time()

    @property
    def workers(self) -> dict[str, int]:
        """{stage: how many}."""
        return {} if self.capacity is None else {"decode": self.capacity.decoders, "encode": self.capacity.encoders}

    def working_busy_s(self) -> dict[str, float]:
        """{stage: seconds of `busy_s` that lie in `working_s`}."""
        busy_s = dict(self.busy_s)
        if self.first_batch is not None:
            if self.probed is not None:
                busy_s = {stage: busy - self.probed.busy_s.get(stage, 0.0) for stage, busy in busy_s.items()}
            for each in self._early:
                busy_s[each.stage] -= each.busy_s * each.share_before(self.first_batch)
        return {stage: max(0.0, busy) for stage, busy in busy_s.items()}

    def utilisation(self) -> dict[str, float]:
        """{stage: share of `working_s` that its workers were busy}: times that and the number of workers, or 1 where it
        has none of its own, it is `working_busy_s`."""
        return self._shares(self.working_busy_s())

    def _shares(self, busy_s: dict[str, float]) -> dict[str, float]:
        return {
            stage: min(1.0, busy / (self.working_s * max(1, self.workers.get(stage, 1))))
            for stage, busy in busy_s.items()
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
        cpu_s = sum(self.cpu_s.values())
        if self.first_batch is not None:
            cpu_s -= self.probed.cpu_s if self.probed is not None else 0.0
            cpu_s -= sum(each.cpu_s * each.share_before(self.first_batch) for each in self._early)
        return cpu_s >= _BUSY * self.capacity.cores * self.working_s

    @property
    def bottleneck(self) -> str | None:
        """The stage that held up the others: what bounds decoding and encoding, or what took longer than that; None
        where nothing was encoded. Of commits, all but the last may: how often there are some makes no difference to
        that one."""
        if self.first_batch is None or not any(self.busy_s.values()):
            return None
        commits_s = max(0.0, self.busy_s["commit"] - self.last_commit_s)
        bounds = self.bounds()
        if bounds is None:
            busy_s = self.working_busy_s()
            shares = self._shares({**busy_s, "commit": min(commits_s, busy_s["commit"])})
            return max(shares, key=lambda stage: shares[stage])
        alone_s = {"write": self.busy_s["write"] / bounds.capacity.decoders, "commit": commits_s}
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
            "working_s": round(self.working_s, 2),
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
