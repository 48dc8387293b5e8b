"""A video's sound from any second, as one unbroken stream of samples in step with its pictures."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from qasir.video.frames_uri import FramesUri
from qasir.video.opening import open_container

log = logging.getLogger(__name__)

RATE = 48_000
"""Samples a second of what comes out, in two channels."""
_BLOCK = RATE // 10
_STEPS_BACK_S = (Fraction(1, 2), 2, 10, 60)
"""Half a second at least, since a decoder's first samples after a seek are not right."""
_TOLERANCE = RATE // 25
"""Samples by which timestamps may be off before silence is put in or samples are left out: containers round them."""


def sound(uri: str, starts_at: Fraction, start_s: Fraction, length_s: Fraction) -> Iterator[NDArray[np.float32]] | None:
    """Blocks of (2, n) samples, one after the other from `start_s` of the video on, for `length_s`; silence where the
    file has none. None for a file without sound, and for pictures.

    starts_at: what the container's clock says when time is 0, in seconds. Damage is silence. Raises VideoError.
    """
    if FramesUri.parse(uri) is not None:
        return None
    container = open_container(uri)
    stream = _sound_stream(container)
    if stream is None:
        container.close()
        return None
    pieces = _Pieces(container, stream).read(starts_at + start_s)
    return _unbroken(pieces, starts_at + start_s, round(length_s * RATE))


def _sound_stream(container: Any) -> Any:
    """The first one that can be decoded, which is what browsers play."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def _unbroken(
    pieces: Iterator[tuple[Fraction, NDArray[np.float32]]], start_s: Fraction, n_wanted: int
) -> Iterator[NDArray[np.float32]]:
    """pieces: (time of the first sample on the container's clock, samples)."""
    n_done = 0
    for at_s, piece in pieces:
        ahead = round((at_s - start_s) * RATE) - n_done
        if n_done and abs(ahead) <= _TOLERANCE:
            ahead = 0
        for silence in _silence(min(ahead, n_wanted - n_done)):
            n_done += silence.shape[1]
            yield silence
        piece = piece[:, max(0, -ahead) :][:, : n_wanted - n_done]
        if piece.shape[1]:
            n_done += piece.shape[1]
            yield piece
        if n_done >= n_wanted:
            return
    yield from _silence(n_wanted - n_done)


def _silence(n_samples: int) -> Iterator[NDArray[np.float32]]:
    while n_samples > 0:
        n_block = min(n_samples, _BLOCK)
        yield np.zeros((2, n_block), np.float32)
        n_samples -= n_block


class _Pieces:
    """Decodes and resamples one stream of an open container."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container = container
        self._stream = stream

    def read(self, from_s: Fraction) -> Iterator[tuple[Fraction, NDArray[np.float32]]]:
        try:
            resampler = _Resampler()
            for packet in self._packets(from_s):
                for frame in self._decoded(packet):
                    yield from resampler.resampled(frame)
        except (av.error.FFmpegError, OSError, ValueError, IndexError, MemoryError) as error:
            log.info("sound ends early: %s", error)
        finally:
            self._container.close()

    def _packets(self, from_s: Fraction) -> Iterator[Packet]:
        first: Packet | None = None
        time_base = self._stream.time_base
        for back_s in _STEPS_BACK_S:
            wanted = int((from_s - back_s) / time_base)
            if wanted <= (self._stream.start_time or 0):
                break
            self._container.seek(wanted, stream=self._stream)
            self._stream.codec_context.flush_buffers()
            packets = self._container.demux(self._stream)
            first = next(packets, None)
            if first is not None and first.pts is not None and first.pts * time_base <= from_s:
                yield first
                yield from packets
                return
        if first is not None:
            self._container.seek(0)
            self._stream.codec_context.flush_buffers()
        yield from self._container.demux(self._stream)

    def _decoded(self, packet: Packet) -> Any:
        try:
            return packet.decode()
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            log.debug("damaged sound is left out: %s", error)
            return []


class _Resampler:
    """To RATE in stereo, whatever comes; a stream may change its form on the way."""

    def __init__(self) -> None:
        self._form: tuple[object, ...] | None = None

    def resampled(self, frame: Any) -> Iterator[tuple[Fraction, NDArray[np.float32]]]:
        if frame.pts is None:
            return
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
            self._form = form
        pieces: Any = self._resampler.resample(frame)
        for piece in pieces:
            yield piece.pts * piece.time_base, np.ascontiguousarray(piece.to_ndarray(), dtype=np.float32)
