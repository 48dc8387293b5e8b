"""Plays a video from any second, for people to look at: the frames on display, exactly, whatever the container.

Time counts from the first displayed frame, as everywhere. Decoding starts at a keyframe that is not after the second
that is wanted, or at the start of the file where none is found by seeking. Unlike `qasir.video.container`, which proves
that nothing was missed, this passes over damage and shows what there is.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame

from qasir.errors import VideoError
from qasir.video.container import stated_rate, video_stream
from qasir.video.limits import check_size, out_of_memory
from qasir.video.opening import DECODER_OPTIONS, STEPS_BACK_S, open_container
from qasir.video.painter import quarter_turns
from qasir.video.tone_map import DEFAULT_PEAK_NITS, stated_peak

log = logging.getLogger(__name__)

_ROUGH, _ROUGH_BYTES = "mpeg", 32 << 20
"""A demuxer of packets with few timestamps: after a seek, where many frames share a packet, they are off by one. Files
up to so many bytes are decoded from the start; in larger ones, frames take a packet or more each."""
_LOOKED_THROUGH = 2000
"""Packets in which a keyframe is looked for, after a seek."""
_REORDER = 32
"""Packets past a time to know all frames before it: twice what any codec can reorder."""
_LONGEST_GROUP = 2000
"""Packets from one keyframe to a time that are looked at before any is decoded."""


@dataclass(frozen=True)
class Shown:
    """A frame, and when it comes on display, in seconds."""

    frame: VideoFrame
    at_s: Fraction


class Footage:
    """An open video. `pixel_aspect` is the width of a pixel over its height, `peak_nits` the brightest light that its
    first frame states, as `Video.peak_nits`. Raises VideoError.

    threads: of the decoder.
    """

    def __init__(self, uri: str, *, threads: int = 1) -> None:
        self.uri = uri
        self._threads = threads
        self._open()
        self.pixel_aspect = float(self._stream.sample_aspect_ratio or 1)
        first = self._first_frame()
        self._first = 0 if first.pts is None else first.pts
        self.peak_nits = stated_peak(first) or DEFAULT_PEAK_NITS

    def _open(self) -> None:
        self._container = open_container(self.uri)
        try:
            self._stream = video_stream(self._container)
        except VideoError:
            self._container.close()
            raise
        self._codec = self._stream.codec_context
        self._codec.options = dict(DECODER_OPTIONS)
        self._codec.thread_count = self._threads
        self._codec.thread_type = "AUTO" if self._threads > 1 else "SLICE"
        assert self._stream.time_base is not None
        self._time_base = self._stream.time_base

    def __enter__(self) -> "Footage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    @property
    def starts_at(self) -> Fraction:
        """What the container's clock says when the first frame is displayed, in seconds."""
        return self._first * self._time_base

    @property
    def usual_step_s(self) -> Fraction:
        """For how long a frame stays, by the stated frame rate."""
        return self._usual_step() * self._time_base

    def frame_at(self, at_s: Fraction) -> VideoFrame:
        """The frame on display then, or the last one before."""
        found = None
        for shown in self._shown(at_s, skips=True):
            if found is not None and shown.at_s > at_s:
                break
            found = shown.frame
        if found is None:
            raise VideoError("no_frames", f"not one frame could be decoded at {float(at_s):.3f} s")
        return found

    def frames(self, start_s: Fraction) -> Iterator[Shown]:
        """Frames in the order in which they are displayed, the first being the one on display at `start_s`."""
        held = None
        for shown in self._shown(start_s, skips=False):
            if held is not None and shown.at_s > start_s:
                yield held
            held = shown
        if held is not None:
            yield held

    def _first_frame(self) -> VideoFrame:
        for packet in self._demuxed():
            for frame in self._decoded(packet):
                return frame
        raise VideoError("no_frames", "not one frame could be decoded")

    def _shown(self, start_s: Fraction, *, skips: bool) -> Iterator[Shown]:
        """Frames from one that is displayed at `start_s` or before; skips: without those before it that no other
        needs."""
        target = self._first + start_s / self._time_base
        packets = self._packets_before(target) or self._from_the_start()
        at = None
        for packet in self._skipping(packets, target) if skips else packets:
            for frame in self._decoded(packet):
                tick = frame.pts if frame.pts is not None else (self._first if at is None else at + self._usual_step())
                if at is None or tick > at:
                    at = tick
                    yield Shown(frame, max(Fraction(0), (tick - self._first) * self._time_base))

    def _packets_before(self, target: Fraction) -> Iterator[Packet] | None:
        """Packets from a keyframe that is not after `target`, in ticks; None when seeking finds none or is inexact."""
        if self._container.format.name == _ROUGH and self._container.size <= _ROUGH_BYTES:
            return None
        for back_s in STEPS_BACK_S:
            wanted = int(target - back_s / self._time_base)
            if wanted <= self._first:
                return None
            try:
                self._container.seek(wanted, stream=self._stream)
                self._codec.flush_buffers()
                packets = self._demuxed()
                keyframe = self._next_keyframe(packets)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                log.debug("%s: no seeking: %s", self.uri, error)
                return None
            if keyframe is not None and keyframe.pts <= target:
                return _chain([keyframe], packets)
        return None

    def _next_keyframe(self, packets: Iterator[Packet]) -> Any:
        for _ in range(_LOOKED_THROUGH):
            packet = next(packets, None)
            if packet is None or packet.size == 0 or packet.pts is None:
                return None
            if packet.is_keyframe:
                return packet
        return None

    def _from_the_start(self) -> Iterator[Packet]:
        self._container.close()
        self._open()
        return self._demuxed()

    def _demuxed(self) -> Iterator[Packet]:
        """What can be read of the file, an empty packet at the end."""
        try:
            yield from self._container.demux(self._stream)
        except (av.error.FFmpegError, OSError, IndexError) as error:  # PyAV's of a stream that appears on the way
            log.info("%s: reading ends early: %s", self.uri, error)

    def _skipping(self, packets: Iterator[Packet], target: Fraction) -> Iterator[Packet]:
        """Packets, while the decoder leaves out frames before the one on display at `target` that no other refers
        to."""
        ahead: list[Packet] = []
        times: list[int] = []
        n_after = 0
        for packet in packets:
            ahead.append(packet)
            if packet.pts is not None:
                times.append(packet.pts)
                n_after += packet.pts > target
            elif packet.size:
                break
            if n_after > _REORDER or len(ahead) > _LONGEST_GROUP:
                break
        is_known = len(times) == sum(packet.size > 0 for packet in ahead) and n_after > 0
        on_display = max((time for time in times if time <= target), default=None) if is_known else None
        try:
            for packet in ahead:
                is_left_out = on_display is not None and packet.pts is not None and packet.pts < on_display
                self._codec.skip_frame = "NONREF" if is_left_out else "DEFAULT"
                yield packet
        finally:
            self._codec.skip_frame = "DEFAULT"
        yield from packets

    def _decoded(self, packet: Packet) -> list[VideoFrame]:
        try:
            frames: Any = packet.decode()
        except MemoryError:
            raise out_of_memory() from None
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            log.debug("%s: damage is passed over: %s", self.uri, error)
            return []
        for frame in frames:
            check_size(frame.width, frame.height)
        return frames

    def _usual_step(self) -> int:
        rate = stated_rate(self._stream)
        return max(1, round(1 / (rate * self._time_base))) if rate else 1


def _chain(first: list[Packet], rest: Iterator[Packet]) -> Iterator[Packet]:
    yield from first
    yield from rest


def upright_size(frame: VideoFrame, pixel_aspect: float, most_lines: int, most_columns: int) -> tuple[int, int]:
    """(width, height) of a frame as it is shown, upright and with square pixels, made smaller where it has more lines
    or columns than these."""
    width, height = frame.width * pixel_aspect, float(frame.height)
    if quarter_turns(frame) % 2:
        width, height = height, width
    scale = min(1.0, most_lines / height, most_columns / width)
    return max(1, round(width * scale)), max(1, round(height * scale))
