"""Turns a video into its super images, for several tilings in one pass over the file."""

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from qasir.video.container import Clock, End, Sample
from qasir.video.dolby_vision import unread_profile
from qasir.video.open_video import SampledVideo, open_video
from qasir.video.painter import FramePainter
from qasir.video.schedule import KeyframeRule, Schedule
from qasir.video.super_image import Fit, cells

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tiling:
    """How frames become super images: `rate` samples a second, N = `grid`, `image_size` pixels a side.

    max_gap: None for uniform sampling, else keyframes are sampled, as `KeyframeRule` says.
    tone_map: whether frames of a high dynamic range are mapped to the standard one (`qasir.video.tone_map`).
    """

    rate: Fraction
    grid: int
    image_size: int
    fit: Fit = "squash"
    max_gap: Fraction | None = None
    tone_map: bool = False

    @property
    def per_image(self) -> int:
        return self.grid * self.grid

    @property
    def rule(self) -> KeyframeRule | None:
        return None if self.max_gap is None else KeyframeRule(self.rate, self.max_gap)

    def first_position(self, seconds: Fraction) -> int:
        """The first super image whose first sample's time is >= `seconds`."""
        ahead = seconds * self.rate / self.per_image
        return -(-ahead.numerator // ahead.denominator)


@dataclass(frozen=True)
class Wanted:
    """Super images `start` .. `stop` - 1 of a tiling (stop None: to the end of the video), without those in `skip`."""

    tiling: Tiling
    start: int = 0
    stop: int | None = None
    skip: frozenset[int] = frozenset()


@dataclass(frozen=True)
class SuperImage:
    """One super image. `pixels` is (S, S, 3) uint8 RGB; `n_valid` cells are filled, the rest are black.

    start_s is its first sample's time; end_s that of the next super image's first sample, or the duration. cell_s: the
    n_valid samples' times.
    """

    position: int
    start_s: float
    end_s: float
    n_valid: int
    cell_s: tuple[float, ...]
    pixels: NDArray[np.uint8]


class Tiler:
    """Collects samples into what is wanted. `n_sampled` and `n_super_images` count the wanted stretch, skipped ones
    too."""

    def __init__(self, wanted: Wanted, pixel_aspect: float, schedule: Schedule | None = None) -> None:
        self.wanted = wanted
        self._schedule = schedule
        self._tiling = wanted.tiling
        self._layout = cells(self._tiling.image_size, self._tiling.grid)
        self._painter = FramePainter(self._tiling.fit, pixel_aspect, tone_map=self._tiling.tone_map)
        self._last: int | None = None
        self._next_s: float | None = None
        self._times: list[float] = []
        self._pixels: NDArray[np.uint8] | None = None

    def expect(self, video: SampledVideo) -> None:
        """Learn, before the first sample, how bright the video's light is."""
        if self._tiling.tone_map:
            self._painter.peak_nits = video.peak_nits

    @property
    def clock(self) -> Clock | Schedule:
        """The samples to decode: what is skipped at the start is left out, but for what may prove to be the video's
        end.

        One more than drawn, because only the next sample shows that the last one lasts its whole period.
        """
        first, per_image, stop = self.wanted.start, self._tiling.per_image, self.wanted.stop
        if stop is not None and stop <= first:
            return self._samples(0, 0)
        while first + 1 in self.wanted.skip and first in self.wanted.skip and (stop is None or first + 1 < stop):
            first += 1
        return self._samples(first * per_image, None if stop is None else stop * per_image + 1)

    def _samples(self, start: int, stop: int | None) -> Clock | Schedule:
        if self._schedule is not None:
            return self._schedule.part(start, stop)
        return Clock(self._tiling.rate, start, stop)

    @property
    def n_sampled(self) -> int:
        return 0 if self._last is None else self._last + 1 - self.wanted.start * self._tiling.per_image

    @property
    def n_super_images(self) -> int:
        return n_super_images(self.n_sampled, self._tiling.grid)

    def add(self, sample: Sample) -> SuperImage | None:
        """Draw a sample. A super image is out when the next one begins, which shows that its last sample is whole."""
        position, at = divmod(sample.index, self._tiling.per_image)
        finished = None
        if at == 0:
            finished = self._finished(None)
            if self.wanted.stop is not None and position >= self.wanted.stop:
                return finished
            if position not in self.wanted.skip:
                side = self._tiling.image_size
                self._pixels = np.zeros((side, side, 3), dtype=np.uint8)
        if self._pixels is not None:
            self._painter.draw(sample.frame, self._pixels, self._layout[at])
            self._times.append(sample.time_s)
        self._last, self._next_s = sample.index, sample.next_s
        return finished

    def duration_s(self, found_s: float | None) -> float | None:
        """How long the video is, None where its end is none of this stretch. A schedule tells, the same however the
        video is read; else what reading it found."""
        return found_s if self._schedule is None else self._schedule.end_s

    def end(self, found_s: float | None) -> SuperImage | None:
        """The super image that the video's end leaves unfinished, if any; found_s: as for `duration_s`."""
        return self._finished(self.duration_s(found_s))

    def _finished(self, until: float | None) -> SuperImage | None:
        pixels, self._pixels = self._pixels, None
        times, self._times = self._times, []
        if pixels is None or self._last is None:
            return None
        ends = [end_s for end_s in (self._next_s, until) if end_s is not None]
        return SuperImage(
            position=self._last // self._tiling.per_image,
            start_s=times[0],
            end_s=min(ends),
            n_valid=len(times),
            cell_s=tuple(times),
            pixels=pixels,
        )


def super_images(
    video: SampledVideo, tilers: Sequence[Tiler], *, allow_partial: bool = False
) -> Generator[tuple[int, SuperImage], None, End]:
    """(number of the tiler, super image), each tiler's in order; returns how the reading ended. Raises VideoError as
    `Video.samples` does."""
    for tiler in tilers:
        tiler.expect(video)
    samples = video.samples([tiler.clock for tiler in tilers], allow_partial=allow_partial)
    while True:
        try:
            sample = next(samples)
        except StopIteration as stop:
            end: End = stop.value
            break
        if sample.index == 0:
            _tell_of_colours(video, sample)
        image = tilers[sample.clock].add(sample)
        if image is not None:
            yield sample.clock, image
    for number, tiler in enumerate(tilers):
        image = tiler.end(end.duration_s)
        if image is not None:
            yield number, image
    return end


def _tell_of_colours(video: SampledVideo, first: Sample) -> None:
    profile = unread_profile(first.frame, video.codec)
    if profile is not None and first.clock == 0:
        log.warning("%s: %s has colours that cannot be read: it is encoded with wrong ones", video.uri, profile)


def tile(uri: str, tiling: Tiling) -> Iterator[SuperImage]:
    """All super images of one file. Raises VideoError."""
    with open_video(uri) as video:
        schedule = None if tiling.rule is None else video.schedule(tiling.rule)
        for _, image in super_images(video, [Tiler(Wanted(tiling), video.pixel_aspect, schedule)]):
            yield image


def n_super_images(n_samples: int, grid: int) -> int:
    """ceil(F / N^2)."""
    return -(-n_samples // (grid * grid))
