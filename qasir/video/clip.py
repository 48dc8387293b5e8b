"""Makes a clip that every browser plays: H.264 and AAC in fragmented MP4, written front to back as it is made."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from qasir.video.footage import Shown, upright_size
from qasir.video.frame_footage import open_footage
from qasir.video.painter import matrix_of, quarter_turns
from qasir.video.sound import RATE, sound
from qasir.video.tone_map import Transfer, transfer_of
from qasir.video.tone_table import FORMAT, ToneTable

log = logging.getLogger(__name__)

MAX_LINES, MAX_COLUMNS = 720, 1280
_TICKS = 90_000
"""Of the pictures' clock, a second."""
_LEAST_STEP_S = Fraction(1, 61)
"""Of pictures that come faster, those that stay for less are left out."""
_MOST_STEP_S = Fraction(1, 2)
"""A picture that stays for longer is written again, so that a player never waits for the next one."""
_FIRST_GROUP, _GROUP = _TICKS // 4, 2 * _TICKS
"""From one keyframe, and one fragment, to the next: short at first, to be there soon, then twice as long each time, as
players look at every fragment of a file before they begin."""
_SOUND_BLOCK = 1024
"""Samples of an AAC frame; what the encoder puts before the first one is left out."""
_H264 = {
    "preset": "veryfast", "tune": "zerolatency", "crf": "23", "maxrate": "5M", "bufsize": "10M", "forced-idr": "1",
    "profile": "high",
}  # fmt: skip
_MP4 = {"movflags": "empty_moov+default_base_moof+frag_keyframe", "flush_packets": "1"}


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class _Picture:
    """A frame of the clip: when it comes, and how long it stays, in ticks."""

    frame: VideoFrame
    at: int
    stays: int


def write_clip(
    uri: str,
    start_s: Fraction,
    end_s: Fraction,
    out: Writable,
    *,
    threads: int = 1,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Write start_s .. end_s of a video to `out`, or as far as the video goes; time 0 of the clip is start_s.

    At most MAX_LINES lines, upright, with square pixels; with the sound of the file's first stream that has any. Damage
    is passed over. alive() is called with every picture. Raises VideoError when there is no picture to begin with,
    and what `out` raises.
    """
    with open_footage(uri, threads=threads) as footage:
        pictures = _paced(footage.frames(start_s), start_s, end_s - start_s, footage.usual_step_s)
        first = next(pictures, None)
        if first is None:
            return
        heard = sound(uri, footage.starts_at, start_s, end_s - start_s)
        width, height = upright_size(first.frame, footage.pixel_aspect, MAX_LINES, MAX_COLUMNS)
        with av.open(_WriteOnly(out), "w", format="mp4", options=_MP4) as container:
            width, height = width // 2 * 2 or 2, height // 2 * 2 or 2
            writer = _Writer(container, width, height, footage.peak_nits, threads, has_sound=heard is not None)
            for picture in _chain(first, pictures):
                alive()
                if heard is not None:
                    writer.hear(heard, until=picture.at + picture.stays)
                writer.show(picture)
            writer.end()


def _paced(
    frames: Iterator[Shown], start_s: Fraction, length_s: Fraction, usual_step_s: Fraction
) -> Iterator[_Picture]:
    """Frames as pictures of the clip: neither too many nor too few of them, from 0 to `length_s`."""
    last_s: Fraction | None = None
    for frame, from_s, until_s in _stays(frames, start_s, usual_step_s):
        until_s = min(until_s, length_s)
        is_soon = last_s is not None and from_s - last_s < _LEAST_STEP_S
        if until_s > from_s and not (is_soon and until_s - from_s < _LEAST_STEP_S):
            for piece_s, stays_s in _pieces(from_s, until_s):
                at = round(piece_s * _TICKS)
                yield _Picture(frame, at, round((piece_s + stays_s) * _TICKS) - at)
                last_s = piece_s
        if until_s >= length_s:
            return


def _stays(
    frames: Iterator[Shown], start_s: Fraction, usual_step_s: Fraction
) -> Iterator[tuple[VideoFrame, Fraction, Fraction]]:
    """(frame, when it comes, when it goes) from `start_s` on, which is 0."""
    held, held_s = None, Fraction(0)
    for shown in frames:
        at_s = max(Fraction(0), shown.at_s - start_s)
        if held is not None:
            yield held, held_s, at_s
        held, held_s = shown.frame, at_s
    if held is not None:
        stays_s = held.duration * held.time_base if held.duration and held.time_base else usual_step_s
        yield held, held_s, held_s + stays_s


def _pieces(from_s: Fraction, until_s: Fraction) -> Iterator[tuple[Fraction, Fraction]]:
    """(when, for how long) a frame is written, which stays that long."""
    while until_s - from_s > _MOST_STEP_S:
        yield from_s, _MOST_STEP_S
        from_s += _MOST_STEP_S
    yield from_s, until_s - from_s


class _Writer:
    """Encodes pictures and sound into an open container."""

    def __init__(
        self, container: Any, width: int, height: int, peak_nits: float, threads: int, *, has_sound: bool
    ) -> None:
        self._container = container
        self._width, self._height = width, height
        self._scaler = VideoReformatter()
        self._from_rgb = VideoReformatter()
        self._peak_nits = peak_nits
        self._tables: dict[tuple[tuple[int, int], Transfer, int], ToneTable] = {}
        self._next_keyframe = 0
        self._pictures = container.add_stream("libx264", rate=30, options=_H264)
        self._pictures.width, self._pictures.height, self._pictures.pix_fmt = width, height, "yuv420p"
        self._pictures.time_base = self._pictures.codec_context.time_base = Fraction(1, _TICKS)
        codec = self._pictures.codec_context
        codec.gop_size, codec.max_b_frames, codec.thread_count = 10_000, 0, threads
        codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc = ColorRange.MPEG, 1, 1, 1
        self._sound: Any = container.add_stream("aac", rate=RATE, layout="stereo") if has_sound else None
        self._samples = np.empty((2, 0), np.float32)
        self._n_heard = 0

    def show(self, picture: _Picture) -> None:
        frame = self._scaled(picture.frame)
        frame.pts, frame.time_base, frame.duration = picture.at, Fraction(1, _TICKS), picture.stays
        is_key = picture.at >= self._next_keyframe
        if is_key:
            self._next_keyframe = picture.at + min(max(picture.at, _FIRST_GROUP), _GROUP)
        frame.pict_type = av.video.frame.PictureType.I if is_key else av.video.frame.PictureType.NONE
        for packet in self._pictures.encode(frame):
            packet.duration = picture.stays
            self._container.mux(packet)

    def hear(self, heard: Iterator[NDArray[np.float32]], until: int) -> None:
        """Write the sound up to a tick, and what of it fills the last AAC frame."""
        wanted = until * RATE // _TICKS
        while self._n_heard + self._samples.shape[1] < wanted:
            block = next(heard, None)
            if block is None:
                break
            self._samples = np.concatenate([self._samples, block], axis=1)
            while self._samples.shape[1] >= _SOUND_BLOCK:
                self._encode_sound(self._samples[:, :_SOUND_BLOCK])
                self._samples = self._samples[:, _SOUND_BLOCK:]

    def _encode_sound(self, samples: NDArray[np.float32]) -> None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._n_heard, Fraction(1, RATE)
        self._n_heard += samples.shape[1]
        self._mux_sound(self._sound.encode(frame))

    def _mux_sound(self, packets: Any) -> None:
        for packet in packets:
            if packet.pts is not None and packet.pts >= 0:
                self._container.mux(packet)

    def end(self) -> None:
        if self._sound is not None:
            if self._samples.shape[1]:
                self._encode_sound(self._samples)
            self._mux_sound(self._sound.encode(None))
        self._container.mux(self._pictures.encode(None))

    def _scaled(self, frame: VideoFrame) -> VideoFrame:
        turns = quarter_turns(frame)
        sideways = turns % 2 == 1
        size = (self._height, self._width) if sideways else (self._width, self._height)
        transfer = transfer_of(frame)
        scaled = self._standard(frame, size) if transfer is None else self._mapped(frame, size, transfer)
        return _turned(scaled, turns) if turns else scaled

    def _standard(self, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
        return self._scaler.reformat(
            frame, *size, "yuv420p", src_colorspace=matrix_of(frame), dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG, interpolation=Interpolation.BILINEAR,
        )  # fmt: skip

    def _mapped(self, frame: VideoFrame, size: tuple[int, int], transfer: Transfer) -> VideoFrame:
        """Of a high dynamic range, as the standard one."""
        which = (size, transfer, int(frame.color_primaries))
        if which not in self._tables:
            self._tables[which] = ToneTable(*which, self._peak_nits)
        matrix = matrix_of(frame)
        coded = self._scaler.reformat(
            frame, *size, FORMAT, src_colorspace=matrix, dst_colorspace=matrix, dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR,
        )  # fmt: skip
        return self._from_rgb.reformat(
            self._tables[which].mapped(coded), *size, "yuv420p", dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )  # fmt: skip


def _turned(frame: VideoFrame, turns: int) -> VideoFrame:
    """A yuv420p frame, turned counter-clockwise by so many quarters."""
    stored = frame.to_ndarray()
    height, width = frame.height, frame.width
    luma, chroma = stored[:height], stored[height:].reshape(2, height // 2, width // 2)
    planes = [np.rot90(plane, turns) for plane in (luma, *chroma)]
    columns = planes[0].shape[1]
    whole = np.concatenate([plane.reshape(-1, columns) for plane in planes])
    return VideoFrame.from_ndarray(np.ascontiguousarray(whole), format="yuv420p")


class _WriteOnly:
    """What FFmpeg takes for a pipe: there is no seeking back in it."""

    def __init__(self, out: Writable) -> None:
        self._out = out

    def write(self, data: bytes) -> int:
        self._out.write(data)
        return len(data)


def _chain(first: _Picture, rest: Iterator[_Picture]) -> Iterator[_Picture]:
    yield first
    yield from rest
