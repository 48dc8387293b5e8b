"""How long a run will take: all its maths of time, from what a sample of the corpus and a few batches took."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qasir.encoding.bounds import Bounds, Capacity, Cost
from qasir.encoding.corpus_sample import Estimated, Interval, linear
from qasir.index.spec import EncoderSpec

EFFICIENCY, EFFICIENCY_ERROR = 0.9, 0.08
"""What the pipeline reaches of what its stages allow, and how much that differs from run to run: 0.82 to 0.98 in
benchmarks/encode.py."""
WRITE_CPU_S = 0.001
"""Seconds of a core to write one super image with its cells and thumbnail, and to pass it on between processes."""
STARTUP_ERROR = 0.2
"""How much start-up differs from run to run."""
_SURELY = 1.96

Sizes = Callable[[Sequence[float]], Capacity]
"""From how many super images each index gets to what works on them at once."""


@dataclass(frozen=True)
class Totals:
    """What there is to do by one choice of settings, over all videos: seconds of video, super images of each index,
    seconds of a core to cut, decode and tile them, seconds of waiting; and bytes of a thumbnail in the mean."""

    video_s: Estimated
    images: tuple[Estimated, ...]
    decode_cpu_s: Estimated
    decode_wait_s: Estimated
    thumbnail_bytes: float

    @property
    def n_images(self) -> Estimated:
        return linear([(1.0, each) for each in self.images])


@dataclass(frozen=True)
class Forecast:
    """What a choice of settings takes.

    seconds: from the command to its end, of which startup_s before and after the work. bounds: what bounds the work;
    None where there is none. index_bytes: of each index, {table: {column: bytes}}.
    """

    name: str
    specs: tuple[EncoderSpec, ...]
    super_images: Interval
    seconds: Interval
    startup_s: float
    bounds: Bounds | None
    index_bytes: tuple[Mapping[str, Mapping[str, float]], ...]

    @property
    def n_bytes(self) -> float:
        return sum(size for tables in self.index_bytes for columns in tables.values() for size in columns.values())

    @property
    def sentence(self) -> str:
        """What bounds it."""
        if self.bounds is None:
            return "nothing is to be encoded"
        grids = {spec.grid for spec in self.specs}
        return self.bounds.sentence(grids.pop() if len(grids) == 1 else None)


def startup(beside_s: float, loading_s: float, loading_core_s: float, capacity: Capacity) -> float:
    """Seconds until the first encoder works, and those that the others take of the cores until they do.

    beside_s: what starts and ends besides. loading_s, loading_core_s: how long an encoder takes to start and to load
    its models, on the clock and of a core.
    """
    others = capacity.encoders - 1 if capacity.shares_cores else 0
    return beside_s + loading_s + others * loading_core_s / capacity.cores


def bounds_of(totals: Totals, encode_s: Sequence[Estimated], capacity: Capacity) -> Bounds | None:
    """encode_s: seconds to encode one super image for each index, of a core where encoders share them, else of one
    encoder."""
    video_s, n_images = totals.video_s.value, totals.n_images.value
    if video_s <= 0:
        return None
    cost = Cost(
        decode_cpu_s=(totals.decode_cpu_s.value + WRITE_CPU_S * n_images) / video_s,
        encode_s=_encoding(totals, encode_s).value / n_images if n_images else 0.0,
        images=n_images / video_s,
        decode_wait_s=totals.decode_wait_s.value / video_s,
    )
    return Bounds(cost, capacity)


def seconds_of(
    totals: Totals, encode_s: Sequence[Estimated], capacity: Capacity, startup_s: float
) -> tuple[Bounds | None, Interval]:
    """What bounds a choice, and how long it takes.

    The interval adds up what the sample leaves open, of decoding and encoding as if both erred the same way, and how
    much efficiency and start-up differ between runs.
    """
    bounds = bounds_of(totals, encode_s, capacity)
    if bounds is None:
        return None, Interval(startup_s, startup_s * (1 - STARTUP_ERROR), startup_s * (1 + STARTUP_ERROR))
    video_s = totals.video_s.value
    work_s = bounds.seconds(video_s) / EFFICIENCY
    value = startup_s + work_s
    decode = totals.decode_cpu_s.interval()
    encode = _encoding(totals, encode_s).interval()
    half = _half(bounds, video_s, decode, encode) / EFFICIENCY
    beside = math.hypot(_SURELY * EFFICIENCY_ERROR * work_s, STARTUP_ERROR * startup_s)
    half = math.hypot(half, beside)
    return bounds, Interval(value, max(startup_s * (1 - STARTUP_ERROR), value - half), value + half)


def _half(bounds: Bounds, video_s: float, decode: Interval, encode: Interval) -> float:
    """How much longer the work takes where decoding and encoding take as long as their intervals go."""
    if math.isinf(decode.high) or math.isinf(encode.high):
        return math.inf
    cost = bounds.cost
    more = Cost(
        decode_cpu_s=cost.decode_cpu_s + (decode.high - decode.value) / video_s,
        encode_s=cost.encode_s * (encode.high / encode.value if encode.value else 1.0),
        images=cost.images,
        decode_wait_s=cost.decode_wait_s * (decode.high / decode.value if decode.value else 1.0),
    )
    return Bounds(more, bounds.capacity).seconds(video_s) - bounds.seconds(video_s)


def _encoding(totals: Totals, encode_s: Sequence[Estimated]) -> Estimated:
    """Seconds to encode all super images."""
    return linear([(1.0, n.times(each)) for n, each in zip(totals.images, encode_s, strict=True)])
