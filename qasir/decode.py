"""Reads a video at a fixed rate, exactly.

Time: t = 0 is the first displayed frame. Sample k is the frame on display at k / rate, that is, the last one whose
timestamp is <= k / rate, for every k / rate before the last frame's timestamp plus its duration. Timestamps are compared
as exact rationals, so variable frame rates and odd time bases need no tolerance.

Only sampled frames are converted: `draw` has swscale scale one straight to a cell's size.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import av
import av.error
import numpy as np
import pyarrow.fs
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from qasir.errors import VideoError
from qasir.super_image import Cell, Fit, fit_inside

MAX_FRAME_PIXELS = 8192 * 4352
"""Frames with more pixels than this (a little over 8K) are refused before memory is taken."""
MAX_GAP_S = 3600
"""A frame cannot be on display for longer than this: larger jumps are broken timestamps."""

_FIRST_HD_HEIGHT = 720
_MATRIX = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
"""ITU-T H.273 matrix coefficients -> swscale's name; anything else goes by the number of lines."""


@dataclass(frozen=True)
class Sample:
    """Sample `index` of a video: the frame on display at index / rate."""

    index: int
    frame: VideoFrame


class Video:
    """An open video file. Iterate `samples` to the end, then `duration_s`, `n_sampled` and `decode_errors` are known.

    uri: a path, or a URI of any filesystem pyarrow knows. Raises VideoError with a kind of `qasir.errors.ERROR_KINDS`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._container = _open(uri)
        try:
            self._stream = self._video_stream()
        except VideoError:
            self._container.close()
            raise
        context = self._stream.codec_context
        context.thread_count = 1  # the pipeline decodes many videos at once; a decoder's own threads only add waiting
        self.width, self.height = context.width, context.height
        self.pixel_aspect = float(self._stream.sample_aspect_ratio or 1)
        self.codec = context.name
        self.decode_errors = 0
        self.first_error: str | None = None
        self.duration_s = 0.0
        self.n_sampled = 0

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def frame_rate(self) -> float:
        """Average frames a second as the container states or guesses it; 0 where it says nothing."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate else 0.0

    def _video_stream(self) -> VideoStream:
        streams = [s for s in self._container.streams.video if not _is_cover(s)]
        if not streams:
            found = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            raise VideoError("no_video_stream", f"no video stream (the file holds: {found})")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError("unsupported_codec", "no decoder for the video stream")
        _check_size(stream.codec_context.width, stream.codec_context.height)
        return stream

    def samples(self, rate: Fraction, *, allow_partial: bool = False) -> Iterator[Sample]:
        """Every sample in order. Damage raises VideoError("decode"), or with allow_partial is counted and passed over."""
        time_base = self._stream.time_base
        assert time_base is not None
        ticks = 1 / (rate * time_base)  # of the stream's clock between two samples
        held: VideoFrame | None = None
        held_at = step = index = 0
        next_at = 0  # the last tick that still belongs to what is on display before sample `index`
        first: int | None = None
        for frame in self._frames(allow_partial):
            if first is None:
                first = frame.pts if frame.pts is not None else 0
                step = self._usual_step(time_base)
            at = frame.pts - first if frame.pts is not None else held_at + step
            if held is not None:
                at = max(at, held_at)
                if (at - held_at) * time_base > MAX_GAP_S:
                    gap = float((at - held_at) * time_base)
                    raise VideoError(
                        "timestamps", f"timestamps jump by {gap:.0f} s at {float(held_at * time_base):.3f} s"
                    )
                while at > next_at:
                    yield Sample(index, held)
                    index += 1
                    next_at = math.floor(index * ticks)
                if at > held_at:
                    step = at - held_at
            held, held_at = frame, at
        if held is None:
            raise VideoError("no_frames", self.first_error or "not one frame could be decoded")
        end = held_at + (held.duration or step or 1)
        while index * ticks < end:
            yield Sample(index, held)
            index += 1
        self.duration_s, self.n_sampled = float(end * time_base), index

    def _usual_step(self, time_base: Fraction) -> int:
        """Ticks a frame lasts by the stated frame rate; 0 when none is stated."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return max(1, round(1 / (rate * time_base))) if rate else 0

    def _frames(self, allow_partial: bool) -> Iterator[VideoFrame]:
        n_packets = 0
        try:
            for packet in self._container.demux(self._stream):
                n_packets += packet.size > 0
                if packet.is_corrupt:
                    self._damage("a packet is cut short or marked corrupt", allow_partial)
                try:
                    frames = packet.decode()
                except av.error.FFmpegError as error:
                    self._damage(_message(error), allow_partial)
                    continue
                for frame in frames:
                    assert isinstance(frame, VideoFrame)
                    _check_size(frame.width, frame.height)
                    yield frame
        except av.error.FFmpegError as error:
            self._damage(_message(error), allow_partial)
        if n_packets < self._stream.frames:
            self._damage(f"the file is cut short: {n_packets} of {self._stream.frames} packets", allow_partial)
        elif "matroska" in self._container.format.name and _matroska_is_cut(self.uri):
            self._damage("the file is cut short: it ends before its Matroska segment does", allow_partial)

    def _damage(self, message: str, allow_partial: bool) -> None:
        self.decode_errors += 1
        self.first_error = self.first_error or message
        if not allow_partial:
            raise VideoError("decode", message)


class FramePainter:
    """Draws frames into cells: swscale scales each straight to its size there, in one conversion.

    pixel_aspect: width over height of one coded pixel (1 for square ones).
    """

    def __init__(self, fit: Fit, pixel_aspect: float = 1.0) -> None:
        self.fit = fit
        self.pixel_aspect = pixel_aspect
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}

    def draw(self, frame: VideoFrame, image: NDArray[np.uint8], cell: Cell) -> None:
        """Fill `cell` of image (S, S, 3) with the frame, upright; with letterbox, what it leaves free is untouched."""
        turns = round(frame.rotation / 90) % 4  # counter-clockwise quarter turns to stand upright
        sideways = turns % 2 == 1
        aspect = frame.width * self.pixel_aspect / frame.height
        box = fit_inside(cell, 1.0 / aspect if sideways else aspect, self.fit)
        width, height = (box.height, box.width) if sideways else (box.width, box.height)
        pixels = self._scaled(frame, width, height)
        image[box.top : box.bottom, box.left : box.right] = np.rot90(pixels, turns) if turns else pixels

    def _scaled(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        scaler = self._scalers.setdefault((width, height), VideoReformatter())
        matrix = _MATRIX.get(
            int(frame.colorspace), Colorspace.ITU709 if frame.height >= _FIRST_HD_HEIGHT else Colorspace.ITU601
        )
        scaled = scaler.reformat(
            frame, width, height, "rgb24", src_colorspace=matrix, dst_colorspace=matrix,
            dst_color_range=ColorRange.JPEG, interpolation=Interpolation.BICUBIC, threads=1,
        )  # fmt: skip
        plane = scaled.planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)
        return rows[:, : width * 3].reshape(height, width, 3)


def _open(uri: str) -> Any:
    try:
        source, options = _source(uri)
        return av.open(source, options=options)
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise VideoError("not_a_video", _message(error)) from None
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError("io", _message(error)) from None


def _source(uri: str) -> tuple[Any, dict[str, str]]:
    """What av.open takes. Local paths get an explicit protocol, so that a name with a colon is still a name."""
    if is_remote(uri):
        return _open_bytes(uri), {}
    return f"file:{uri}", {"protocol_whitelist": "file"}


def is_remote(uri: str) -> bool:
    """Whether a URI names an object store rather than a local path."""
    return "://" in uri and len(urlsplit(uri).scheme) > 1


def _open_bytes(uri: str) -> Any:
    if not is_remote(uri):
        return open(uri, "rb")
    filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    return filesystem.open_input_file(path)


def _matroska_is_cut(uri: str) -> bool:
    """Whether the file ends before the size its segment states (RFC 8794, RFC 9559); FFmpeg passes over this silently."""
    with _open_bytes(uri) as file:
        head = file.read(4096)
        file.seek(0, os.SEEK_END)
        n_bytes = file.tell()
    size, at = _ebml_size(head, 4)
    at += size
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return False
    size, start = _ebml_size(head, at + 4)
    return size >= 0 and start + size > n_bytes


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length size at `at` and where it ends; -1 stands for "unknown" (all ones: a live stream)."""
    length = 9 - data[at].bit_length() if data[at] else 9
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return (-1 if unknown else value), at + length


def _is_cover(stream: VideoStream) -> bool:
    """Cover art travels as a video stream of one picture."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise VideoError("too_large", f"frames of {width}x{height} px; the limit is {MAX_FRAME_PIXELS:,} pixels")


def _message(error: BaseException) -> str:
    """The decoder's own words, without the path that the row already has."""
    if isinstance(error, av.error.FFmpegError):
        last = error.log[1] if error.log else None
        detail = f" ({last[1]}: {last[2].strip()})" if last else ""
        return f"{error.strerror}{detail}"
    return getattr(error, "strerror", None) or str(error)
