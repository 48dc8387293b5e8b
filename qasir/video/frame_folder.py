"""A video that is a folder of numbered pictures, read with the same clock as a file is.

Pictures are sorted by the last number in their names. Picture n is on display from (n - first) / rate seconds on, until
the next one comes; the last one lasts 1 / rate. A number that is missing leaves the picture before it on display. Each
sampled picture is opened by itself, by Pillow, and no other is. Damage that touches none of them goes unnoticed.
"""

from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from types import TracebackType

import numpy as np
from av.video.frame import VideoFrame

from qasir.errors import QueryError, UriError, VideoError
from qasir.files.readable import reason
from qasir.video.container import MAX_GAP_S, Clock, End, Sample, hand_of
from qasir.video.frames_uri import FramesUri
from qasir.video.hardware import CPU, Gpu
from qasir.video.limits import MAX_DURATION_S
from qasir.video.picture import PictureTooLarge, read_picture
from qasir.video.pictures_in import Picture, pictures_in
from qasir.video.schedule import KeyframeRule, Schedule, Timeline
from qasir.video.tone_map import DEFAULT_PEAK_NITS


class FrameFolder:
    """An open folder of pictures, with what `qasir.video.container.Video` has.

    uri: as `qasir.video.frames_uri` writes it. alive() is called with every picture. Raises VideoError.
    """

    pixel_aspect = 1.0
    recorded_at: datetime | None = None
    media_offset_s = 0.0
    peak_nits = DEFAULT_PEAK_NITS
    gpu: Gpu | None = None
    """No GPU decodes pictures."""
    fallback: str | None = None
    decoder = CPU

    def __init__(self, uri: str, *, alive: Callable[[], None] = lambda: None) -> None:
        frames = FramesUri.parse(uri)
        assert frames is not None, uri
        self.uri = uri
        self.rate = frames.rate
        self._alive = alive
        self._timed = TimedPictures.listed(frames)
        first = self._timed.read_first()
        self.width, self.height = first.width, first.height
        self.codec = f"{self._timed.pictures[0].suffix} pictures"

    def __enter__(self) -> "FrameFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass  # nothing stays open

    def read_first(self) -> None:
        """As of a file: here the first picture was read when it was opened."""

    @property
    def frame_rate(self) -> float:
        return float(self.rate)

    @property
    def stated_duration_s(self) -> float:
        return float(self._timed.duration_s)

    claimed_duration_s = stated_duration_s

    def seeks_exactly(self, at_s: Sequence[float]) -> bool:
        return True

    @property
    def time_base(self) -> Fraction:
        """A tick is the time from one number to the next."""
        return 1 / self.rate

    def timeline(self) -> Timeline:
        """All pictures count as keyframes: each can be decoded alone."""
        ticks = self._timed.ticks
        return Timeline(self.time_base, 0, ticks, ticks, ticks[-1] + 1)

    def schedule(self, rule: KeyframeRule, *, allow_partial: bool = False) -> Schedule:
        return self.timeline().schedule(rule)

    def samples(
        self, clocks: Sequence[Clock | Schedule], *, allow_partial: bool = False
    ) -> Generator[Sample, None, End]:
        """Every clock's samples, each clock's in order; what the generator returns is how the reading ended.

        A picture that is damaged raises VideoError("decode"), or with allow_partial is counted, and the last whole one
        before it stays on display.
        """
        hands = [hand_of(clock, self.time_base) for clock in clocks]
        n_broken = 0
        shown: tuple[int, VideoFrame] | None = None
        end = self._timed.ticks[-1] + 1
        while True:
            ahead = [(hand.tick, number) for number, hand in enumerate(hands) if not hand.done and hand.tick < end]
            if not ahead:
                break
            tick, number = min(ahead)
            at = self._timed.on_display(tick)
            if shown is None or shown[0] != at:
                self._alive()
                try:
                    shown = at, self._timed.frame(at)
                except VideoError as error:
                    if not allow_partial or error.kind != "decode":
                        raise
                    n_broken += 1
                    shown = at, self._timed.nearest(at)
            hand = hands[number]
            yield Sample(number, hand.index, shown[1], hand.time_s, hand.next_s)
            hand.advance()
        return End(self.stated_duration_s if any(hand.to_the_end for hand in hands) else None, n_broken)


@dataclass(frozen=True)
class TimedPictures:
    """Pictures in order, `rate` a second, and from when each is on display: ticks of 1 / rate since the first."""

    pictures: Sequence[Picture]
    ticks: Sequence[int]
    rate: Fraction

    @property
    def duration_s(self) -> Fraction:
        return (self.ticks[-1] + 1) / self.rate

    @classmethod
    def listed(cls, frames: FramesUri) -> "TimedPictures":
        """Raises VideoError ("io", "no_frames", "timestamps", "too_long")."""
        try:
            found = sorted(pictures_in(frames.place), key=lambda picture: picture.number)
        except (OSError, UriError) as error:
            raise VideoError("io", reason(error)) from None
        if not found:
            raise VideoError("no_frames", "no picture whose name has a number")
        ticks = [picture.number - found[0].number for picture in found]
        for (one, at), (other, after) in pairwise(zip(found, ticks, strict=True)):
            if at == after:
                raise VideoError("timestamps", f"two pictures have the number {one.number}: {one.name}, {other.name}")
            if (after - at) / frames.rate > MAX_GAP_S:
                gap = f"{float((after - at) / frames.rate):,.0f} s between {one.name} and {other.name}"
                raise VideoError("timestamps", f"the numbers jump: {gap}")
        timed = cls(found, ticks, frames.rate)
        if timed.duration_s > MAX_DURATION_S:
            lasts = f"{float(timed.duration_s):,.0f} s of pictures"
            raise VideoError("too_long", f"{lasts}; the limit is {MAX_DURATION_S:,} s")
        return timed

    def on_display(self, tick: Fraction | int) -> int:
        """Which picture, by its place in order, is on display then."""
        return max(0, bisect_right(self.ticks, tick) - 1)

    def frame(self, at: int) -> VideoFrame:
        """A picture as a frame. Raises VideoError ("io", "decode", "too_large")."""
        picture = self.pictures[at]
        try:
            pixels = np.asarray(read_picture(picture.read(), picture.name))
        except PictureTooLarge as error:
            raise VideoError("too_large", str(error)) from None
        except QueryError as error:
            raise VideoError("decode", str(error)) from None
        except OSError as error:
            raise VideoError("io", f"{picture.name}: {reason(error)}") from None
        return VideoFrame.from_ndarray(pixels, format="rgb24")

    def nearest(self, at: int) -> VideoFrame:
        """The picture that stands for one that is damaged: the last whole one before it, else the first one after.
        Raises VideoError("no_frames") where there is none, and what else than damage keeps one from being read."""
        for other in [*range(at - 1, -1, -1), *range(at + 1, len(self.pictures))]:
            try:
                return self.frame(other)
            except VideoError as error:
                if error.kind != "decode":
                    raise
        raise VideoError("no_frames", "not one picture can be read")

    def read_first(self) -> VideoFrame:
        """The first picture that can be read, which tells how large they are."""
        return self.nearest(-1)
