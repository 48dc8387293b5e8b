"""Reads a video at fixed rates, exactly.

Time: t = 0 is the first displayed frame. Sample k is the frame on display at k / rate, that is, the last one whose
timestamp is <= k / rate, for every k / rate before the last frame's timestamp plus its duration. Timestamps are
compared as exact rationals, so variable frame rates and odd time bases need no tolerance.

Several rates, and any stretch of samples, come from one pass over the file; `qasir.video.lookahead` leaves out the
decoding that no sample depends on. Damage that touches no frame a sample depends on may go unnoticed.
"""

import logging
import time
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from types import TracebackType
from typing import Any

import av.error
import numpy as np
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from qasir.errors import VideoError
from qasir.video.hardware import BROKEN_OFF, CPU, CUDA, REFUSED, Fallback, Gpu, on_cpu
from qasir.video.limits import check_length, check_size, decoding, longest_s
from qasir.video.lookahead import FrameDecoder, Inexact, Lookahead
from qasir.video.opening import (
    DECODER_OPTIONS,
    matroska_is_cut,
    message,
    open_container,
    packets_until,
    stated_packets,
)
from qasir.video.recorded import recorded_at
from qasir.video.schedule import KeyframeRule, Schedule, ScheduleHand, Timeline
from qasir.video.scheduled import ScheduledFrames
from qasir.video.survey import survey
from qasir.video.tone_map import DEFAULT_PEAK_NITS, is_high_range, stated_peak

log = logging.getLogger(__name__)

MAX_GAP_S = 3600
"""A frame cannot be on display for longer than this: larger jumps are broken timestamps."""
_LOOKED_AHEAD_S, _LOOKED_AHEAD_BYTES = 3600, 64 << 20
"""A file of so few bytes that goes on for so long, and for longer than its header promises, has its timestamps read to
the end before more of it is decoded. A larger one is stopped where it is too long."""
_CLOCK_RATE = 10_000
"""An average rate from which on it is that of the clock, not of frames: DV's demuxer says so."""
_SOUGHT_EXACTLY = ("mov", "matroska")
"""Demuxers with an index of keyframes by exact time."""


@dataclass(frozen=True)
class Clock:
    """Samples k = start .. stop - 1 at k / rate seconds; stop None means to the end of the video."""

    rate: Fraction
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Sample:
    """Sample `index` of the clock numbered `clock`: the frame on display at time_s. next_s: when that clock's next
    sample is, if there is one; None where a schedule ends."""

    clock: int
    index: int
    frame: VideoFrame
    time_s: float
    next_s: float | None


@dataclass(frozen=True)
class End:
    """How the reading of a video ended: the duration, None unless its end was reached, and how much damage was passed
    over. Where only schedules are read, theirs is the duration; beside clocks it is what clocks alone find."""

    duration_s: float | None
    decode_errors: int


@dataclass
class _Reading:
    """What one pass over the file has found so far. tick: when the frame is shown that is being decoded."""

    tick: int = 0
    duration_s: float | None = None
    decode_errors: int = 0
    first_error: str | None = None

    def end(self, scheduled_s: float | None) -> End:
        return End(self.duration_s if scheduled_s is None else scheduled_s, self.decode_errors)


@dataclass
class _Span:
    """From the first timestamp of packets to where the last of their frames ends, in ticks."""

    first: int | None = None
    end: int | None = None

    def add(self, packet: Packet, step: int) -> None:
        """step: how long a frame lasts whose packet does not say."""
        if packet.pts is not None:
            self.first = packet.pts if self.first is None else min(self.first, packet.pts)
            self.end = max(self.end or packet.pts, packet.pts + (packet.duration or step))

    @property
    def ticks(self) -> int | None:
        """None without any timestamp."""
        return None if self.first is None or self.end is None else self.end - self.first


class _Hand:
    """Where one clock stands, in ticks of the stream's time base since the first displayed frame."""

    def __init__(self, clock: Clock, time_base: Fraction) -> None:
        period = 1 / (clock.rate * time_base)
        self._num, self._den = period.numerator, period.denominator
        self._clock = clock
        self.index = clock.start
        self.tick = self._floor(self.index)

    @property
    def time_s(self) -> float:
        return float(self.index / self._clock.rate)

    @property
    def next_s(self) -> float:
        return float((self.index + 1) / self._clock.rate)

    @property
    def done(self) -> bool:
        return self._clock.stop is not None and self.index >= self._clock.stop

    @property
    def to_the_end(self) -> bool:
        return self._clock.stop is None

    def within(self, _tick: int) -> bool:
        """Whether the frame on display now belongs to this clock's stretch of the video."""
        return (self.index > self._clock.start or self.index == 0) and not self.done

    def _floor(self, index: int) -> int:
        return index * self._num // self._den

    def advance(self) -> None:
        self.index += 1
        self.tick = self._floor(self.index)

    def next_from(self, tick: int) -> int | None:
        """The tick (rounded down) of the first sample not yet taken whose time is >= `tick`."""
        index = max(self.index, -(-tick * self._den // self._num))
        return None if self._clock.stop is not None and index >= self._clock.stop else self._floor(index)


_Hands = Sequence[_Hand | ScheduleHand]


def hand_of(clock: Clock | Schedule, time_base: Fraction) -> _Hand | ScheduleHand:
    """Where the samples of a clock or a schedule begin to be taken."""
    return ScheduleHand(clock) if isinstance(clock, Schedule) else _Hand(clock, time_base)


class Video:
    """An open video file, whose frames are read by `samples`.

    uri: a path, or a URI of any filesystem pyarrow knows. alive() is called as the file is read, so that a caller can
    tell a slow video from one that hangs. Raises VideoError with a kind of `qasir.errors.ERROR_KINDS`.

    gpu: set it, or `fallback` in its place, to have `samples` decode there as long as that goes well; `decoder` is what
    decoded the last sample, and `fallback` why that was not the GPU.
    """

    def __init__(self, uri: str, *, alive: Callable[[], None] = lambda: None) -> None:
        self.uri = uri
        self._alive = alive
        self._rate = 1.0
        self._first: int | None = None
        self.gpu: Gpu | None = None
        self.fallback: str | None = None
        self._timeline: Timeline | None = None
        self._open()
        context = self._stream.codec_context
        self.width, self.height = context.width, context.height
        self.pixel_aspect = float(self._stream.sample_aspect_ratio or 1)
        self.codec = context.name

    def _rewind(self) -> None:
        """Have the container stand at its beginning."""
        if not self._at_start:
            self._reopen()

    def _reopen(self, gpu: Gpu | None = None) -> None:
        self._container.close()
        self._open(gpu)

    def _open(self, gpu: Gpu | None = None) -> None:
        self._at_start = True
        self._container = open_container(self.uri, None if gpu is None else gpu.accel)
        try:
            self._stream = video_stream(self._container)
            assert self._stream.time_base is not None
            self._time_base = self._stream.time_base
            self._n_bytes = max(0, self._container.size)
            promised_s = self._promised_s()
            check_length(promised_s, self._n_bytes, "the header promises")
            self._checked_until = int(max(_LOOKED_AHEAD_S, promised_s + 1) / self._time_base)
        except VideoError:
            self._container.close()
            raise
        context = self._stream.codec_context
        context.options = dict(DECODER_OPTIONS)
        context.thread_count = 1  # many videos are decoded at once; a decoder's own threads only wait
        self.decoder = CPU if gpu is None else CUDA
        self._decoder: FrameDecoder = context if gpu is None else gpu.decoder(context)

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick of the stream's timestamps."""
        return self._time_base

    @property
    def frame_rate(self) -> float:
        """Average frames a second as the container states or guesses it; 0 where it says nothing."""
        return float(stated_rate(self._stream))

    @property
    def stated_duration_s(self) -> float | None:
        """What the header says of a file that can be sought exactly; None for any other."""
        if not any(name in self._container.format.name for name in _SOUGHT_EXACTLY) or not self._container.duration:
            return None
        return float(Fraction(self._container.duration, av.time_base))

    @property
    def claimed_duration_s(self) -> float | None:
        """What any file's header says, or FFmpeg makes of its size and rate; None where neither does: then
        `demuxed_duration_s` tells. Good for a guess of how much there is to do, and for nothing else."""
        stated, of_all = self._stream.duration, self._container.duration
        if stated:
            return float(stated * self._time_base)
        return float(Fraction(of_all, av.time_base)) if of_all else None

    def demuxed_duration_s(self, within_s: float) -> float | None:
        """The same by its packets, of which none is decoded; None where they do not tell. Where they have not ended
        within so many seconds, the whole is to those read as the file is to the bytes up to there."""
        ends, n_packets, read_bytes = time.monotonic() + within_s, 0, 0
        step, span = self._usual_step(), _Span()
        for packet in self._packets():
            n_packets += packet.size > 0
            read_bytes = max(read_bytes, (packet.pos or 0) + packet.size)
            span.add(packet, step)
            if time.monotonic() >= ends:
                break
        else:
            read_bytes = self._n_bytes
        ticks = n_packets * step if span.ticks is None else span.ticks
        more = max(1.0, self._n_bytes / read_bytes) if read_bytes else 1.0
        return float(ticks * self._time_base) * more or None

    def _packets(self) -> Iterator[Packet]:
        """Those of the stream, of the file opened anew, as far as it can be read."""
        with open_container(self.uri) as container:
            try:
                for packet in container.demux(container.streams[self._stream.index]):
                    self._alive()
                    yield packet
            except av.error.FFmpegError:
                pass  # whoever decodes it meets that too

    @property
    def recorded_at(self) -> datetime | None:
        """When it was recorded, by what the container says."""
        return recorded_at([self._container.metadata, self._stream.metadata])

    @property
    def media_offset_s(self) -> float | None:
        """What a player's time is at t = 0 (`qasir.video.media_time`); None as long as no frame was read."""
        return None if self._first is None else float(self._first * self._time_base)

    def read_first(self) -> VideoFrame:
        """The first displayed frame, of which no more is decoded; `samples` is for another Video then. Damage before it
        is passed over. Raises VideoError("no_frames")."""
        reading = _Reading()
        frame = next(self._decoded([], reading, allow_partial=True), None)
        if frame is None:
            raise _no_frames(reading)
        self._first = frame.pts if frame.pts is not None else 0
        return frame

    @cached_property
    def peak_nits(self) -> float:
        """The brightest light that a video of a high dynamic range states (`qasir.video.tone_map`). Its first frame
        tells, so that it is the same wherever reading begins."""
        if not is_high_range(self._stream.codec_context.color_trc):
            return DEFAULT_PEAK_NITS
        try:
            return self._beginning[1] or DEFAULT_PEAK_NITS
        except VideoError as error:  # whoever reads on meets it too
            log.debug("%s: no first frame: %s", self.uri, error)
            return DEFAULT_PEAK_NITS

    def _promised_s(self) -> float:
        """How long the header says that the video stream is, or else the file; 0 where it does not say."""
        if self.stated_duration_s is None:
            return 0.0
        stated = self._stream.duration
        return self.stated_duration_s if stated is None else float(stated * self._time_base)

    def samples(
        self, clocks: Sequence[Clock | Schedule], *, allow_partial: bool = False
    ) -> Generator[Sample, None, End]:
        """Every clock's samples, each clock's in order; what the generator returns is how the reading ended. To be
        iterated once. Schedules are this video's own.

        Damage raises VideoError("decode"), or with allow_partial is counted and passed over.
        """
        hands = [hand_of(clock, self._time_base) for clock in clocks]
        scheduled_s = _scheduled_end_s(clocks)
        if all(hand.done for hand in hands):
            return End(scheduled_s, 0)
        self._rate = max([self._rate, *(float(clock.rate) for clock in clocks if isinstance(clock, Clock))])
        check_length(self._promised_s(), self._n_bytes, "the header promises", self._rate)
        if self.gpu is not None:
            read = yield from self._samples_on(self.gpu, clocks, hands)
            if read is not None:
                return read.end(scheduled_s)
        reading = _Reading()
        try:
            yield from self._shown(self._few_frames(clocks, hands, reading), hands)
            return reading.end(scheduled_s)
        except Inexact as reason:
            log.debug("%s: decoding every frame: %s", self.uri, reason)
        self._rewind()
        reading = _Reading()
        yield from self._shown(self._every_frame(hands, reading, allow_partial), hands)
        return reading.end(scheduled_s)

    def _few_frames(
        self, clocks: Sequence[Clock | Schedule], hands: _Hands, reading: _Reading
    ) -> Iterator[tuple[VideoFrame, int]]:
        """Those that samples depend on, and not many more. Raises `Inexact` where that cannot be told."""
        schedules = [clock for clock in clocks if isinstance(clock, Schedule)]
        if not all(schedule.by_packets for schedule in schedules):
            raise Inexact("packets do not tell the frames' times")
        by_schedule = len(schedules) == len(clocks)
        if not (by_schedule and self.stated_duration_s is not None):
            self._rewind()
        self._at_start = False
        yield from self._scheduled_frames(schedules) if by_schedule else self._sampled_frames(hands, reading)

    def schedule(self, rule: KeyframeRule, *, allow_partial: bool = False) -> Schedule:
        """The samples that a rule takes of this video. Where packets do not tell the frames' times, all frames are
        decoded for it, and keyframes are those that the decoder calls so. Raises VideoError as `samples` does."""
        self._rate = max(self._rate, float(rule.rate))
        if self._timeline is None:
            try:
                self._timeline = self.timeline()
            except Inexact as reason:
                log.debug("%s: decoding every frame for the times: %s", self.uri, reason)
                self._timeline = self._decoded_timeline(allow_partial)
        return self._timeline.schedule(rule)

    def timeline(self) -> Timeline:
        """The frames' times by their packets: the whole file is read, and not decoded. Raises `Inexact` where they do
        not tell."""
        self._rewind()
        self._at_start = False
        found = survey(self._container, self._stream, n_packets=self._stated_packets, alive=self._alive)
        if self._is_cut():
            raise Inexact("cut short")
        origin, _ = self._beginning  # a frame that is announced may not come out
        shown = found.shown[found.shown >= origin] - origin
        if len(shown) == 0 or shown[0] > 0:
            raise Inexact("a frame that no packet announced")
        if np.diff(shown, prepend=0).max() > MAX_GAP_S / self._time_base:
            raise Inexact("a jump in the timestamps")
        end = int(shown[-1]) + (found.step or self._usual_step() or 1)
        check_length(float(end * self._time_base), self._n_bytes, "timestamps go on for", self._rate)
        keys, hidden = (array("q", (ticks - origin).tobytes()) for ticks in (found.keys, found.hidden))
        return Timeline(self._time_base, origin, array("q", shown.tobytes()), keys, end, hidden)

    @cached_property
    def _beginning(self) -> tuple[int, float | None]:
        """(timestamp, stated brightness in nits) of the first displayed frame, of the file opened anew. Raises
        VideoError."""
        with Video(self.uri, alive=self._alive) as other:
            frame = other.read_first()
            assert other._first is not None
            return other._first, stated_peak(frame)

    def _decoded_timeline(self, allow_partial: bool) -> Timeline:
        """The same by decoding every frame."""
        reading = _Reading()
        shown, keys = array("q"), array("q")
        at = 0
        with Video(self.uri, alive=self._alive) as other:
            for frame, until in other._every_frame([], reading, allow_partial):
                if not shown or at > shown[-1]:
                    shown.append(at)
                if frame.key_frame and (not keys or at > keys[-1]):
                    keys.append(at)
                at = until
            assert other._first is not None
            return Timeline(self._time_base, other._first, shown, keys, at, by_packets=False)

    def _samples_on(
        self, gpu: Gpu, clocks: Sequence[Clock | Schedule], hands: _Hands
    ) -> Generator[Sample, None, _Reading | None]:
        """The samples that a GPU gives; None where the CPU has to go on from there, for the reason in `fallback`."""
        reading, reason = _Reading(), REFUSED
        try:
            first = self._first_on_cpu()
            self._reopen(gpu)
            for sample in self._shown(self._few_frames(clocks, hands, reading), hands):
                if self._first != first:  # all times count from it, and nothing but a decoder tells which it is
                    raise Fallback(REFUSED, "the first frame did not come out")
                reason = BROKEN_OFF
                yield sample
            return reading
        except Exception as error:  # whatever a driver does: the file can be read without it
            self.fallback = error.reason if isinstance(error, Fallback) else reason
            log.info("%s: decoding on the CPU: %s: %s", self.uri, type(error).__name__, error)
        self._reopen()
        return None

    def _first_on_cpu(self) -> int | None:
        """The timestamp of the first displayed frame. Raises Fallback."""
        self._rewind()
        self._at_start = False
        for frame in self._decoded([], _Reading(), allow_partial=True):
            return frame.pts
        raise Fallback(REFUSED, "not one frame could be decoded")

    def seeks_exactly(self, at_s: Sequence[float]) -> bool:
        """Whether seconds from the middle can be decoded without all that comes before them, tried at each of these."""
        try:
            for at in at_s:
                hands = [_Hand(Clock(Fraction(1), int(at), int(at) + 1), self._time_base)]
                for _ in self._shown(self._sampled_frames(hands, _Reading()), hands):
                    pass
                self._at_start = False
                self._rewind()
        except Inexact:
            return False
        return True

    def _shown(self, frames: Iterator[tuple[VideoFrame, int]], hands: _Hands) -> Iterator[Sample]:
        """Gives every sample its frame; frames come as (frame, tick until which it is on display)."""
        for number, (frame, until) in enumerate(frames):
            if number == 0:
                self._check_origin(hands)
            if until > self._checked_until:
                self._check_end(until)
            for clock, hand in enumerate(hands):
                while not hand.done and hand.tick < until:  # until is whole, so a rounded-down time compares exactly
                    frame = on_cpu(frame)
                    yield Sample(clock, hand.index, frame, hand.time_s, hand.next_s)
                    hand.advance()
            if all(hand.done and not hand.to_the_end for hand in hands):
                return

    def _check_origin(self, hands: _Hands) -> None:
        """Raises VideoError where times count from another frame than those of a schedule do."""
        if any(isinstance(hand, ScheduleHand) and hand.origin != self._first for hand in hands):
            raise VideoError("timestamps", "the first frame is not the one that keyframe times were counted from")

    def _check_end(self, tick: int) -> None:
        """Whether a video may go on until `tick`. Raises VideoError("too_long"), for a small file already when it is
        its end that lies too late."""
        check_length(float(tick * self._time_base), self._n_bytes, "timestamps go on for", self._rate)
        if self._n_bytes <= _LOOKED_AHEAD_BYTES:
            check_length(self._last_timestamp_s(), self._n_bytes, "timestamps go on for", self._rate)
        self._checked_until = int(longest_s(self._n_bytes, self._rate) / self._time_base)

    def _last_timestamp_s(self) -> float:
        """The end of the last frame, from the first one's timestamp, read without decoding anything."""
        span = _Span()
        for packet in self._packets():
            span.add(packet, 0)
        return float((span.ticks or 0) * self._time_base)

    def _sampled_frames(self, hands: _Hands, reading: _Reading) -> Iterator[tuple[VideoFrame, int]]:
        def next_sample(tick: int) -> int | None:
            return min((t for t in (hand.next_from(tick) for hand in hands) if t is not None), default=None)

        lookahead = Lookahead(
            self._container, self._stream, next_sample, alive=self._alive, max_gap=int(MAX_GAP_S / self._time_base),
            start=min((hand.tick for hand in hands if not hand.done), default=0) if self.stated_duration_s else 0,
            n_packets=self._stated_packets, decoder=self._decoder,
        )  # fmt: skip
        last = 0
        for frame, at, until in lookahead.frames():
            check_size(frame.width, frame.height)
            assert frame.pts is not None
            self._first = frame.pts - at
            if until is not None:
                last = at
                yield frame, until
            elif self._is_cut():
                raise Inexact("cut short")
            else:
                yield frame, self._ends_at(reading, frame, at, at - last)

    def _scheduled_frames(self, schedules: Sequence[Schedule]) -> Iterator[tuple[VideoFrame, int]]:
        origin = self._first = schedules[0].origin
        starts = {tick: start for each in schedules for tick, start in zip(each.ticks, each.starts, strict=True)}
        wanted = [(origin + tick, origin + starts[tick]) for tick in sorted(starts)]
        seeks = self.stated_duration_s is not None
        frames = ScheduledFrames(
            self._container, self._stream, wanted, seeks=seeks, decoder=self._decoder, alive=self._alive
        )
        for frame in frames.frames():
            check_size(frame.width, frame.height)
            assert frame.pts is not None
            yield frame, frame.pts - origin + 1

    def _every_frame(self, hands: _Hands, reading: _Reading, allow_partial: bool) -> Iterator[tuple[VideoFrame, int]]:
        held: VideoFrame | None = None
        first = held_at = 0
        step = self._usual_step()
        for frame in self._decoded(hands, reading, allow_partial):
            if held is None:
                self._first = first = frame.pts if frame.pts is not None else 0
            else:
                at = max(held_at, frame.pts - first if frame.pts is not None else held_at + step)
                if (at - held_at) * self._time_base > MAX_GAP_S:
                    gap, when = float((at - held_at) * self._time_base), float(held_at * self._time_base)
                    raise VideoError("timestamps", f"timestamps jump by {gap:.0f} s at {when:.3f} s")
                yield held, at
                step = at - held_at or step
                held_at = at
            held = frame
        if held is None:
            raise _no_frames(reading)
        yield held, self._ends_at(reading, held, held_at, step)

    def _ends_at(self, reading: _Reading, last: VideoFrame, at: int, step: int) -> int:
        """The tick at which the video ends, known once its last frame is; `step` is what came before that frame."""
        end = at + (last.duration or step or self._usual_step() or 1)
        reading.duration_s = float(end * self._time_base)
        return end

    def _usual_step(self) -> int:
        """Ticks a frame lasts by the stated frame rate; 0 when none is stated."""
        rate = stated_rate(self._stream)
        return max(1, round(1 / (rate * self._time_base))) if rate else 0

    def _decoded(self, hands: _Hands, reading: _Reading, allow_partial: bool) -> Iterator[VideoFrame]:
        def damage(text: str, *, is_mine: bool | None = None) -> None:
            reading.decode_errors += any(hand.within(reading.tick) for hand in hands) if is_mine is None else is_mine
            reading.first_error = reading.first_error or text
            if not allow_partial:
                raise VideoError("decode", text)

        reads_the_end = any(hand.to_the_end for hand in hands)
        n_packets, last = 0, None
        try:
            for packet in self._container.demux(self._stream):
                self._alive()
                if packet.size > 0:
                    n_packets, last = n_packets + 1, packet
                if packet.pts is not None and self._first is not None:
                    reading.tick = packet.pts - self._first
                if packet.is_corrupt:
                    damage("a packet is cut short or marked corrupt")
                try:
                    with decoding():
                        frames = packet.decode()
                except av.error.FFmpegError as error:
                    damage(message(error))
                    continue
                for frame in frames:
                    assert isinstance(frame, VideoFrame)
                    check_size(frame.width, frame.height)
                    yield frame
        except av.error.FFmpegError as error:  # no memory too, where a packet is said to be larger than there is any
            damage(message(error))
        n_packets = packets_until(self._container, n_packets, last)
        if n_packets < self._stated_packets:
            damage(f"the file is cut short: {n_packets} of {self._stated_packets} packets", is_mine=reads_the_end)
        elif self._is_cut():
            damage("the file is cut short: it ends before its Matroska segment does", is_mine=reads_the_end)

    @cached_property
    def _stated_packets(self) -> int:
        return stated_packets(self.uri, self._container, self._stream)

    def _is_cut(self) -> bool:
        return "matroska" in self._container.format.name and matroska_is_cut(self.uri)


def video_stream(container: Any) -> VideoStream:
    """The stream that is the video: the first one that is no cover. Raises VideoError."""
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        found = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise VideoError("no_video_stream", f"no video stream (the file holds: {found})")
    stream: VideoStream = streams[0]
    if stream.codec_context is None:
        raise VideoError("unsupported_codec", "no decoder for the video stream")
    check_size(stream.codec_context.width, stream.codec_context.height)
    return stream


def _scheduled_end_s(clocks: Sequence[Clock | Schedule]) -> float | None:
    """The duration by a schedule that holds the last sample, where no clock needs another: the same however the video
    is read."""
    schedules = [clock for clock in clocks if isinstance(clock, Schedule)]
    if len(schedules) < len(clocks):
        return None
    return next((schedule.end_s for schedule in schedules if schedule.end_s is not None), None)


def stated_rate(stream: VideoStream) -> Fraction:
    """Frames a second, on average, as the container states or guesses it; 0 where it says nothing."""
    average = stream.average_rate
    if average and average < _CLOCK_RATE:
        return average
    return stream.guessed_rate or average or Fraction(0)


def _no_frames(reading: _Reading) -> VideoError:
    return VideoError("no_frames", reading.first_error or "not one frame could be decoded")


def _is_cover(stream: VideoStream) -> bool:
    """Cover art travels as a video stream of one picture."""
    return bool(stream.disposition & Disposition.attached_pic)
