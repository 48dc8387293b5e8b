"""Plays a folder of numbered pictures as `qasir.video.footage` plays a file."""

from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType

from av.video.frame import VideoFrame

from qasir.errors import VideoError
from qasir.video.footage import Footage, Shown
from qasir.video.frame_folder import TimedPictures
from qasir.video.frames_uri import FramesUri
from qasir.video.tone_map import DEFAULT_PEAK_NITS


class FrameFootage:
    """An open folder of pictures, with what `Footage` has. Raises VideoError."""

    pixel_aspect = 1.0
    starts_at = Fraction(0)
    peak_nits = DEFAULT_PEAK_NITS

    def __init__(self, frames: FramesUri) -> None:
        self._timed = TimedPictures.listed(frames)
        self.usual_step_s = 1 / frames.rate

    def __enter__(self) -> "FrameFootage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        pass  # nothing stays open

    def frame_at(self, at_s: Fraction) -> VideoFrame:
        """The picture on display then; where that is damaged, the nearest that is not."""
        return self._whole(self._timed.on_display(at_s * self._timed.rate))

    def frames(self, start_s: Fraction) -> Iterator[Shown]:
        """Pictures in the order in which they are displayed, the first being the one on display at `start_s`; damaged
        ones are passed over."""
        first = self._timed.on_display(start_s * self._timed.rate)
        yield Shown(self._whole(first), self._timed.ticks[first] / self._timed.rate)
        for at in range(first + 1, len(self._timed.pictures)):
            try:
                yield Shown(self._timed.frame(at), self._timed.ticks[at] / self._timed.rate)
            except VideoError:
                continue

    def _whole(self, at: int) -> VideoFrame:
        try:
            return self._timed.frame(at)
        except VideoError:
            return self._timed.nearest(at)


def open_footage(uri: str, *, threads: int = 1) -> Footage | FrameFootage:
    """A video to be played, a file or a folder of pictures. Raises VideoError."""
    frames = FramesUri.parse(uri)
    return Footage(uri, threads=threads) if frames is None else FrameFootage(frames)
