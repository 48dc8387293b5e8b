"""What bounds encoding, the decoders or the encoders, and what a larger model or grid would change.

Where encoders have GPUs, the two stages work beside each other and the slower one bounds. Where both compute on the
same cores, the sum of their work bounds, and a stage matters by its share of it.
"""

from dataclasses import dataclass, replace
from math import floor, inf
from typing import Literal

from qasir.index.spec import MAX_GRID

Stage = Literal["decode", "encode"]

_CLEAR = 1.1
"""From how many times larger on it is worth saying how much larger a model may be."""
_HALF = 0.05


@dataclass(frozen=True)
class Cost:
    """What a second of video costs.

    decode_cpu_s: seconds of one core, for decoding and tiling it. images: super images made of it, of all indexes
    together: fps / N^2, more where videos are short. encode_s: for one super image, seconds of one encoder where that
    has a GPU, else seconds of one core (so for an encoder that computes on two, twice what it takes). decode_wait_s:
    seconds that a decoder waits for storage or for another device, without a core.
    """

    decode_cpu_s: float
    encode_s: float
    images: float
    decode_wait_s: float = 0.0

    @property
    def video_encode_s(self) -> float:
        """What encoding a second of video takes, as `encode_s` counts."""
        return self.encode_s * self.images


@dataclass(frozen=True)
class Capacity:
    """What works at once. cores: those that decoders have, and encoders too where there are no GPUs. encoder_threads:
    how many cores one encoder computes on; 0 where it has a GPU."""

    cores: float
    decoders: int
    encoders: int
    encoder_threads: int

    @property
    def shares_cores(self) -> bool:
        return self.encoder_threads > 0


@dataclass(frozen=True)
class Bounds:
    """How long video takes, start-up aside, what bounds that, and by how much."""

    cost: Cost
    capacity: Capacity

    @property
    def decode_s(self) -> float:
        """Seconds a second of video that decoding takes when nothing else is done."""
        cost, capacity = self.cost, self.capacity
        of_cores = cost.decode_cpu_s / min(capacity.cores, capacity.decoders)
        return max(of_cores, (cost.decode_cpu_s + cost.decode_wait_s) / capacity.decoders)

    @property
    def encode_s(self) -> float:
        """Seconds a second of video that encoding takes when nothing else is done."""
        capacity = self.capacity
        if not capacity.shares_cores:
            return self.cost.video_encode_s / capacity.encoders
        return self.cost.video_encode_s / min(capacity.cores, capacity.encoders * capacity.encoder_threads)

    @property
    def cores_s(self) -> float:
        """Seconds a second of video that the cores take for what is done on them."""
        shared = self.cost.video_encode_s if self.capacity.shares_cores else 0.0
        return (self.cost.decode_cpu_s + shared) / self.capacity.cores

    def seconds(self, video_s: float = 1.0) -> float:
        """How long so many seconds of video take."""
        return video_s * max(self.decode_s, self.encode_s, self.cores_s)

    @property
    def stage(self) -> Stage:
        """The slower stage; of cores that both share, the one with more of the work."""
        if self._is_of_cores:
            return "encode" if self.cost.video_encode_s > self.cost.decode_cpu_s else "decode"
        return "encode" if self.encode_s > self.decode_s else "decode"

    @property
    def share(self) -> float:
        """The share that the bounding stage has of the seconds: 1.0, or less where it shares cores."""
        if not self._is_of_cores:
            return 1.0
        work = {"decode": self.cost.decode_cpu_s, "encode": self.cost.video_encode_s}
        return work[self.stage] / sum(work.values())

    @property
    def headroom(self) -> float:
        """How many times longer encoding one super image may take until all takes longer; 1.0 where any longer would
        show, infinite where nothing is encoded."""
        encode_s = self.cost.video_encode_s
        if not encode_s:
            return inf
        most = self.seconds() / self.encode_s
        if self.capacity.shares_cores:
            most = min(most, (self.seconds() * self.capacity.cores - self.cost.decode_cpu_s) / encode_s)
        return max(1.0, most)

    def longer(self, factor: float) -> float:
        """How many times as long all takes when encoding takes so many times as long, as with another model or grid."""
        other = replace(self, cost=replace(self.cost, encode_s=factor * self.cost.encode_s))
        return other.seconds() / self.seconds()

    def sentence(self, grid: int | None) -> str:
        """What bounds this, and what that means: for the model where it is decoding, for the grid where it is encoding.

        grid: N of all indexes, None where they differ. What is said of a larger model holds as far as encoding takes in
        proportion to it; of a larger grid, as far as videos fill super images of it.
        """
        if self.stage == "encode":
            return f"encoding bounds this{self._of_work}: {self._with_larger(grid)}"
        if self.headroom >= _CLEAR:
            return f"decoding bounds this: a model up to {_times(self.headroom)} times larger would take no longer"
        return f"decoding bounds this{self._of_work}: a model twice as large would take {_more(self.longer(2.0))}"

    @property
    def _is_of_cores(self) -> bool:
        return self.capacity.shares_cores and self.cores_s >= max(self.decode_s, self.encode_s)

    @property
    def _of_work(self) -> str:
        return f", with {100 * self.share:.0f} % of the work of the cores" if self._is_of_cores else ""

    def _with_larger(self, grid: int | None) -> str:
        if grid is None:
            return "larger grids or smaller models would shorten it"
        if grid == MAX_GRID:
            return "a smaller model would shorten it"
        factor = self.longer((grid / (grid + 1)) ** 2)
        if abs(factor - 0.5) <= _HALF:
            return f"N = {grid + 1} would halve it"
        return f"N = {grid + 1} would take {100 * (1 - factor):.0f} % less time"


def _times(factor: float) -> str:
    """Rounded down, so as not to promise more."""
    return f"{floor(factor):,}" if factor >= 10 else f"{floor(10 * factor) / 10:g}"


def _more(factor: float) -> str:
    return f"{100 * (factor - 1):.0f} % longer"
