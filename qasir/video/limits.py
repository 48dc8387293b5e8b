"""What a video may ask for: pixels a frame, memory, and seconds for its bytes. More is refused before it is taken."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import av.error
import av.logging

from qasir.errors import VideoError

MAX_FRAME_PIXELS = 8192 * 4352
"""Frames with more pixels than this (a little over 8K) are refused before memory is taken."""
MAX_DURATION_S = 7 * 24 * 3600
"""No video lasts longer than a week. Cameras that run for longer begin a new file every few hours."""
LONG_S = 25 * 3600
"""A day and a little is believed of any file: a still, or a slide-show whose pictures hardly differ, has next to no
bytes."""
MAX_SECONDS_A_BYTE = 1
"""What lasts longer than a day has a byte a second at least. A still repeated once a second takes 25 bytes to say that
nothing has changed, one picture in ten minutes of 640x360 takes 10 bytes a second."""
FEW_SAMPLES, MAX_SAMPLES_A_BYTE = LONG_S, MAX_SECONDS_A_BYTE
"""The same where more than one sample a second is taken: what takes more than 90,000 has a byte for each at least."""
_REFUSED = re.compile(r"(?:Picture|Frame) size (\d+)x(\d+) exceeds")
"""How `av_image_check_size2`, which all of FFmpeg's decoders ask, and dav1d say that max_pixels is exceeded."""

_NO_BUFFER, _NO_SUCH_FRAME = "get_buffer() failed", "image parameters invalid"
"""How all of them say that they got no memory for a frame, unless they say before it that there can be no such frame.
H.264's goes on without that frame."""


def check_size(width: int, height: int) -> None:
    """Raises VideoError("too_large")."""
    if width * height > MAX_FRAME_PIXELS:
        raise VideoError("too_large", f"frames of {width}x{height} px; the limit is {MAX_FRAME_PIXELS:,} pixels")


def longest_s(n_bytes: int, rate: float = 1.0) -> int:
    """The longest that a file of so many bytes can last, of which so many samples a second are taken."""
    most = max(LONG_S, n_bytes * MAX_SECONDS_A_BYTE)
    if rate > 1:
        most = min(most, int(max(FEW_SAMPLES, n_bytes * MAX_SAMPLES_A_BYTE) / rate))
    return min(MAX_DURATION_S, most)


def check_length(seconds: float, n_bytes: int, source: str, rate: float = 1.0) -> None:
    """source: what says that the video lasts so long; rate: samples a second. Raises VideoError("too_long")."""
    most = longest_s(n_bytes, rate)
    if seconds > most:
        sampled = f" at {rate:g} samples a second" if rate > 1 else ""
        raise VideoError(
            "too_long", f"{source} {seconds:,.0f} s of video in {n_bytes:,} bytes; the limit is {most:,} s{sampled}"
        )


def out_of_memory() -> VideoError:
    return VideoError("too_large", "decoding takes more memory than a decoder may have")


@contextmanager
def decoding() -> Iterator[None]:
    """A decoder's work; that it refused a frame for its size, or was refused memory, raises VideoError("too_large").

    Decoders return the same error for a frame that is too large as for one that is damaged, or none and leave the frame
    out: only what they log tells.
    """
    level, skips_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said:
            try:
                yield
            except MemoryError:
                raise out_of_memory() from None
            finally:
                _check_refusals(said)
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips_repeated)


def _check_refusals(said: list[tuple[int, str, str]]) -> None:
    text = "".join(line for _, _, line in said)
    refused = _REFUSED.search(text)
    if refused:
        check_size(int(refused[1]), int(refused[2]))
    if _NO_BUFFER in text and _NO_SUCH_FRAME not in text:
        raise out_of_memory()
