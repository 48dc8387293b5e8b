"""Decodes the frames of a schedule and next to nothing else: a keyframe alone, and a frame between two keyframes from
the one before it.

Every frame that comes out is checked against the schedule; whatever is unexpected (a keyframe that is none, damage)
raises `Inexact`, and the caller decodes every frame instead.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from qasir.video.lookahead import ExactDecoder, FrameDecoder, Inexact
from qasir.video.opening import STEPS_BACK_S


class ScheduledFrames:
    """Reads one video stream. Times are timestamps of the stream.

    wanted: (the timestamp of a frame, that of the keyframe to decode from), ascending, each frame once. seeks: whether
    the container finds keyframes by their timestamps; else packets are read on. decoder: None is the stream's
    own.
    """

    def __init__(
        self,
        container: Any,
        stream: VideoStream,
        wanted: Sequence[tuple[int, int]],
        *,
        seeks: bool,
        decoder: FrameDecoder | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._decoder = ExactDecoder(decoder or stream.codec_context)
        self._wanted = wanted
        self._seeks = seeks
        self._alive = alive
        self._packets: Iterator[Packet] = container.demux(stream)
        self._again: deque[Packet] = deque()  # of the next group of pictures, already decoded for the one before

    def frames(self) -> Iterator[VideoFrame]:
        """The wanted frames, in order."""
        for start, group in groupby(self._wanted, key=lambda frame: frame[1]):
            wanted = [pts for pts, _ in group]
            due = deque(wanted)
            last: int | None = None
            for frame in self._from(start, wanted):
                if frame.pts is None or (last is not None and frame.pts <= last):
                    raise Inexact("frames come out of order")
                last = frame.pts
                if frame.is_corrupt or (frame.pts == start and not frame.key_frame):
                    raise Inexact("a damaged frame, or a keyframe that is none")
                if due and frame.pts == due[0]:
                    due.popleft()
                    yield frame
            if due:
                raise Inexact("a sampled frame did not come out")

    def _from(self, start: int, wanted: Sequence[int]) -> Iterator[VideoFrame]:
        """Decodes from the keyframe at `start` what these frames refer to, and them."""
        self._decoder.flush()
        shown, missing = set(wanted), set(wanted)
        fed: list[Packet] = []
        packet: Packet | None = self._keyframe(start)
        while packet is not None:
            self._decoder.skip_unreferenced(packet.pts not in shown)
            yield from self._decoder.decode(packet)
            if fed or _is_later_keyframe(packet, wanted[-1]):
                fed.append(packet)
            missing.discard(packet.pts)
            # All that a frame refers to is decoded before it, so nothing more is needed.
            packet = self._next() if missing else None
        yield from self._decoder.decode(None)
        self._again.extendleft(reversed(fed))

    def _next(self) -> Packet | None:
        self._alive()
        if self._again:
            return self._again.popleft()
        try:
            packet = next(self._packets, None)
        except (av.error.FFmpegError, OSError) as error:
            raise Inexact(str(error)) from None
        return packet if packet is not None and packet.size else None

    def _keyframe(self, pts: int) -> Packet:
        if not self._seeks:
            return self._read_on_to(pts)
        time_base = self._stream.time_base
        assert time_base is not None
        for back in STEPS_BACK_S:
            try:
                self._container.seek(int(pts - back / time_base), stream=self._stream)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                raise Inexact(str(error)) from None
            self._packets = self._container.demux(self._stream)
            self._again.clear()
            try:
                return self._read_on_to(pts)
            except Inexact:
                continue
        raise Inexact("no keyframe found by seeking")

    def _read_on_to(self, pts: int) -> Packet:
        while (packet := self._next()) is not None and packet.pts is not None:
            if packet.is_keyframe and packet.pts >= pts:
                if packet.pts == pts:
                    return packet
                break
        raise Inexact("a keyframe is not where it was")


def _is_later_keyframe(packet: Packet, pts: int) -> bool:
    """Whether it begins the next group of pictures, some of which are shown before it."""
    return packet.is_keyframe and packet.pts is not None and packet.pts > pts
