"""Decodes only what sampled frames depend on, and proves that nothing was missed.

Compressed packets are read ahead to the next keyframe, so their timestamps tell which frames will be on display at a
sample's time before anything is decoded. Then two kinds of work are left out:
- when the next sample lies at or past a coming keyframe, decoding starts again there and the rest of the group of
  pictures is never decoded;
- a frame that no sample shows and no other frame refers to is skipped by the decoder (`skip_frame`).
Every frame that comes out is checked against the timestamps read; anything unexpected (no timestamps, damage, a decoder
that hands out other frames) raises `Inexact`, and the caller decodes everything from the start instead.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from qasir.video.limits import out_of_memory
from qasir.video.opening import STEPS_BACK_S, packets_until

_REORDER = 32
"""Packets past a keyframe to know all timestamps before it: twice what any codec can reorder."""
_MAX_PACKETS, _MAX_BYTES = 1024, 32 << 20

_NOT_REORDERED = ("h264", "hevc", "vvc")
"""Codecs whose packets FFmpeg gives no timestamps in the order of display where the container has none (onein_oneout
in compute_pkt_fields of its libavformat/demux.c)."""


class Inexact(Exception):
    """Sampled frames cannot be found this way: decode every frame."""


def are_made_up(container: Any, stream: VideoStream) -> bool:
    """Whether packets' timestamps merely number them as they are decoded, which is not how their frames are shown: AVI
    keeps none."""
    codec = stream.codec_context
    return bool(container.format.name == "avi" and codec.name in _NOT_REORDERED and codec.has_b_frames)


class FrameDecoder(Protocol):
    """A codec context, or what stands for one."""

    skip_frame: Any

    def decode(self, packet: Packet | None) -> Any: ...

    def flush_buffers(self) -> None: ...


class ExactDecoder:
    """The decoder of one stream, for a reader that cannot do with less than it asked for: what it raises on damage is
    `Inexact`, and VideoError where there is no memory."""

    def __init__(self, decoder: FrameDecoder) -> None:
        self._decoder = decoder
        self._skipping = False

    def decode(self, packet: Packet | None) -> list[VideoFrame]:
        """The frames that come out with a packet, or with None those that are left."""
        try:
            return list(self._decoder.decode(packet))
        except av.error.EOFError:
            return []
        except MemoryError:
            raise out_of_memory() from None
        except av.error.FFmpegError as error:
            raise Inexact(str(error)) from None

    def skip_unreferenced(self, skip: bool) -> None:
        """Whether the next packets' frames are left out where no other refers to them."""
        if skip != self._skipping:
            self._decoder.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skipping = skip

    def flush(self) -> None:
        """Forget what was decoded: another stretch follows."""
        self._decoder.flush_buffers()


class Lookahead:
    """Reads one video stream. Times are in the stream's ticks; those given and taken count from the first displayed
    frame.

    next_sample(tick): the first tick >= `tick` at which a sample is wanted, None when there is none.
    n_packets: how many there must be at least (`qasir.video.opening.stated_packets`).
    start: seek there first, if it is not 0. max_gap: the longest that a frame may be on display. decoder: None is the
    stream's own.
    """

    def __init__(
        self,
        container: Any,
        stream: VideoStream,
        next_sample: Callable[[int], int | None],
        *,
        start: int = 0,
        max_gap: int,
        n_packets: int = 0,
        decoder: FrameDecoder | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._decoder = ExactDecoder(decoder or stream.codec_context)
        self._next_sample = next_sample
        self._start = start
        self._max_gap = max_gap
        self._alive = alive
        self._first: int | None = None
        self._expected = n_packets
        self._restart()

    def _restart(self) -> None:
        self._packets: Iterator[Packet] = self._container.demux(self._stream)
        self._window: deque[Packet] = deque()
        self._bytes = 0
        self._n_read = self._n_taken = 0
        self._newest: Packet | None = None
        self._keys: deque[tuple[int, int]] = deque()  # (number, timestamp) of keyframes in the window
        self._known: list[int] = []  # timestamps read, sorted; old ones are forgotten
        self._ended = False
        self._floor: int | None = None
        self._last: int | None = None
        self._passed: int | None = None  # every sample before this timestamp has its frame

    def frames(self) -> Iterator[tuple[VideoFrame, int, int | None]]:
        """(frame, tick it is shown at, tick of the next one or None for the video's last) in display order.

        Every sampled frame is among them, so are the last two of the video, and few others.
        """
        if are_made_up(self._container, self._stream):
            raise Inexact("timestamps are in the order of decoding")
        while True:
            self._prepare()
            if not self._window:
                break
            packet = self._take()
            if self._floor is not None and packet.pts is not None and packet.pts < self._floor:
                continue  # shown before the keyframe we started at: refers to what was left out
            self._let_skip(packet)
            yield from self._checked(self._decoder.decode(packet))
        yield from self._checked(self._decoder.decode(None))
        if not self._known or self._last != self._known[-1]:
            raise Inexact("the last frame did not come out")

    def _prepare(self) -> None:
        """Fill the window and drop what nothing needs."""
        self._fill()
        if self._first is None:
            return
        if self._start:
            target, self._start = self._first + self._start, 0
            if target > self._known[-1]:
                self._seek(target)
                self._fill()
        need = self._need()
        while need is not None and self._jump(need):
            self._fill()
            need = self._need()

    def _need(self) -> int | None:
        """The first sample time without its frame; at the end of the video also its last two frames."""
        if self._first is None:
            return None
        passed = self._passed if self._passed is not None else self._first
        sample = self._next_sample(passed - self._first)
        if sample is None:
            return None
        need = sample + self._first
        if self._ended:
            need = min([need, *(t for t in self._known[-2:] if t >= passed)])
        return need

    def _fill(self) -> None:
        while not self._ended and not self._sees_far_enough():
            self._alive()
            try:
                packet = next(self._packets, None)
            except av.error.FFmpegError as error:
                raise Inexact(str(error)) from None
            if packet is None or packet.size == 0:
                self._ended = True
                if packets_until(self._container, self._n_read, self._newest) < self._expected:
                    raise Inexact("fewer packets than stated")
                return
            if packet.pts is None or packet.is_corrupt:
                raise Inexact("a packet without a timestamp, or a damaged one")
            self._window.append(packet)
            self._bytes += packet.size
            self._newest = packet
            self._n_read += 1
            if packet.is_keyframe:
                self._keys.append((self._n_read, packet.pts))
            if not packet.is_discard:
                at = bisect_left(self._known, packet.pts)
                if at < len(self._known) and self._known[at] == packet.pts:
                    raise Inexact("two frames at one time")
                self._known.insert(at, packet.pts)

    def _sees_far_enough(self) -> bool:
        if len(self._window) >= _MAX_PACKETS or self._bytes >= _MAX_BYTES:
            return True
        head = self._n_taken + 1
        return any(number > head and self._n_read - number >= _REORDER for number, _ in self._keys)

    def _take(self) -> Packet:
        packet = self._window.popleft()
        self._bytes -= packet.size
        self._n_taken += 1
        while self._keys and self._keys[0][0] <= self._n_taken:
            self._keys.popleft()
        return packet

    def _jump(self, need: int) -> bool:
        """Start again at the last keyframe in sight that is not after `need`, if one lies ahead."""
        ahead = [number for number, pts in self._keys if number > self._n_taken + 1 and pts <= need]
        if not ahead:
            return False
        self._floor = next(pts for number, pts in self._keys if number == ahead[-1])
        while self._n_taken + 1 < ahead[-1]:
            self._take()
        self._decoder.flush()
        return True

    def _seek(self, target: int) -> None:
        """Continue at a keyframe at or before `target`. Raises Inexact if the container finds none."""
        time_base = self._stream.time_base
        assert time_base is not None
        for back in STEPS_BACK_S:
            try:
                self._container.seek(int(target - back / time_base), stream=self._stream)
                self._decoder.flush()
                self._restart()
                self._expected = 0
                packet = next(self._packets, None)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                raise Inexact(str(error)) from None
            if packet is not None and packet.is_keyframe and packet.pts is not None and packet.pts <= target:
                self._begin_at(packet)
                return
        raise Inexact("no keyframe found by seeking")

    def _begin_at(self, packet: Packet) -> None:
        """Take up the first packet after a seek; its place in the container's index says how many must follow."""
        entries = self._stream.index_entries
        if self._stream.frames and len(entries) == self._stream.frames:
            at = entries.search_timestamp(packet.dts if packet.dts is not None else packet.pts)
            self._expected = self._stream.frames - at if at >= 0 else 0
        self._packets = _chain(packet, self._packets)
        self._floor = packet.pts

    def _let_skip(self, packet: Packet) -> None:
        skip = (
            self._first is not None
            and packet.pts is not None
            and not packet.is_discard
            and not self._is_shown(packet.pts)
        )
        self._decoder.skip_unreferenced(skip)

    def _is_shown(self, pts: int) -> bool:
        """Whether a sample falls on the frame of this timestamp, or it is one of the video's last two."""
        after = bisect_right(self._known, pts)
        if after == len(self._known) or (self._ended and after >= len(self._known) - 1):
            return True
        assert self._first is not None
        sample = self._next_sample(pts - self._first)
        return sample is not None and sample + self._first < self._known[after]

    def _checked(self, frames: list[VideoFrame]) -> Iterator[tuple[VideoFrame, int, int | None]]:
        for frame in frames:
            pts = frame.pts
            if pts is None:
                raise Inexact("a frame without a timestamp")
            if self._first is None:
                self._first = pts
                del self._known[: bisect_left(self._known, pts)]
            if self._floor is not None and pts < self._floor:
                continue
            at = bisect_left(self._known, pts)
            if at == len(self._known) or self._known[at] != pts or (self._last is not None and pts <= self._last):
                raise Inexact("a frame that no packet announced")
            need = self._need()
            if need is not None and need < pts:
                raise Inexact("a sampled frame did not come out")
            if frame.is_corrupt:
                raise Inexact("a damaged frame")
            is_last = at + 1 == len(self._known)
            if is_last and not self._ended:
                raise Inexact("frames come out of order")
            self._last = pts
            self._passed = pts + 1 if is_last else self._known[at + 1]
            if self._passed - pts > self._max_gap:
                raise Inexact("a jump in the timestamps")
            yield frame, pts - self._first, None if is_last else self._passed - self._first
            if at > _MAX_PACKETS:
                del self._known[:at]


def _chain(first: Packet, rest: Iterator[Packet]) -> Iterator[Packet]:
    yield first
    yield from rest
