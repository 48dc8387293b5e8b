"""A video that is a folder of numbered pictures, read with the same clock as a file is.

Pictures are sorted by the last number in their names. Picture n is on display from (n - first) / rate seconds on, until
the next one comes; the last one lasts 1 / rate. A number that is missing leaves the picture before it on display. Each
sampled picture is opened by itself, by Pillow, and no other is. Damage that touches none of them goes unnoticed.
"""

import heapq
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from types import TracebackType

import numpy as np
from av.video.frame import VideoFrame

from qasir.errors import QueryError, UriError, VideoError
from qasir.files.readable import reason
from qasir.video.container import MAX_GAP_S, Clock, End, Sample, Video
from qasir.video.frames_uri import FramesUri
from qasir.video.limits import MAX_DURATION_S
from qasir.video.picture import PictureTooLarge, read_picture
from qasir.video.pictures_in import Picture, pictures_in


class FrameFolder:
    """An open folder of pictures, with what `qasir.video.container.Video` has.

    uri: as `qasir.video.frames_uri` writes it. alive() is called with every picture. Raises VideoError.
    """

    pixel_aspect = 1.0
    recorded_at: datetime | None = None
    media_offset_s = 0.0

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

    def seeks_exactly(self, at_s: Sequence[float]) -> bool:
        return True

    def samples(self, clocks: Sequence[Clock], *, allow_partial: bool = False) -> Generator[Sample, None, End]:
        """Every clock's samples, each clock's in order; what the generator returns is how the reading ended.

        A picture that is damaged raises VideoError("decode"), or with allow_partial is counted, and the one before
        stays on display.
        """
        n_broken = 0
        shown: tuple[int, VideoFrame] | None = None
        for at_s, number, k in heapq.merge(*(self._times(number, clock) for number, clock in enumerate(clocks))):
            at = self._timed.on_display(at_s)
            if shown is None or shown[0] != at:
                self._alive()
                try:
                    shown = at, self._timed.frame(at)
                except VideoError:
                    if not allow_partial:
                        raise
                    n_broken += 1
                    shown = at, self._timed.nearest(at)
            yield Sample(number, k, shown[1])
        reaches_the_end = any(clock.stop is None for clock in clocks)
        return End(self.stated_duration_s if reaches_the_end else None, n_broken)

    def _times(self, number: int, clock: Clock) -> Iterator[tuple[Fraction, int, int]]:
        """(seconds, the clock's number, k) of a clock's samples."""
        k = clock.start
        while (clock.stop is None or k < clock.stop) and k / clock.rate < self._timed.duration_s:
            yield k / clock.rate, number, k
            k += 1


@dataclass(frozen=True)
class TimedPictures:
    """Pictures in order, and from when each is on display, in seconds."""

    pictures: Sequence[Picture]
    starts_s: Sequence[Fraction]
    duration_s: Fraction

    @classmethod
    def listed(cls, frames: FramesUri) -> "TimedPictures":
        """Raises VideoError ("io", "no_frames", "timestamps", "too_long")."""
        try:
            found = sorted(pictures_in(frames.place), key=lambda picture: picture.number)
        except (OSError, UriError) as error:
            raise VideoError("io", reason(error)) from None
        if not found:
            raise VideoError("no_frames", "no picture whose name has a number")
        starts = [(picture.number - found[0].number) / frames.rate for picture in found]
        for one, other, start, next_start in zip(found, found[1:], starts, starts[1:], strict=False):
            if one.number == other.number:
                raise VideoError("timestamps", f"two pictures have the number {one.number}: {one.name}, {other.name}")
            if next_start - start > MAX_GAP_S:
                gap = f"{float(next_start - start):,.0f} s between {one.name} and {other.name}"
                raise VideoError("timestamps", f"the numbers jump: {gap}")
        duration_s = starts[-1] + 1 / frames.rate
        if duration_s > MAX_DURATION_S:
            raise VideoError("too_long", f"{float(duration_s):,.0f} s of pictures; the limit is {MAX_DURATION_S:,} s")
        return cls(found, starts, duration_s)

    def on_display(self, at_s: Fraction) -> int:
        """Which picture, by its place in order, is on display then."""
        return max(0, bisect_right(self.starts_s, at_s) - 1)

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
        Raises VideoError("no_frames") where there is none."""
        for other in [*range(at - 1, -1, -1), *range(at + 1, len(self.pictures))]:
            try:
                return self.frame(other)
            except VideoError:
                continue
        raise VideoError("no_frames", "not one picture can be read")

    def read_first(self) -> VideoFrame:
        """The first picture that can be read, which tells how large they are."""
        return self.nearest(-1)


def open_video(uri: str, *, alive: Callable[[], None] = lambda: None) -> Video | FrameFolder:
    """A video to be sampled, a file or a folder of pictures. Raises VideoError."""
    return Video(uri, alive=alive) if FramesUri.parse(uri) is None else FrameFolder(uri, alive=alive)
