"""Small videos of every container and codec that PyAV's FFmpeg writes, and damage done to them, all from one seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame

from qasir.errors import VideoError
from qasir.video.container import Video

CONTAINERS = {
    "mp4": "mp4", "fmp4": "mp4", "mov": "mov", "3gp": "3gp", "mkv": "matroska", "webm": "webm", "avi": "avi",
    "flv": "flv", "wmv": "asf", "mpg": "mpeg", "vob": "vob", "ts": "mpegts", "mxf": "mxf", "ogv": "ogg", "nut": "nut",
    "ivf": "ivf", "m4v": "m4v", "h264": "h264", "hevc": "hevc", "obu": "obu", "gif": "gif", "apng": "apng",
    "y4m": "yuv4mpegpipe", "m2v": "mpeg2video", "m1v": "mpeg1video", "mjpeg": "mjpeg", "dv": "dv", "rm": "rm",
    "wtv": "wtv",
}  # fmt: skip
"""Suffix -> FFmpeg's muxer."""
CODECS = {
    "libx264": "yuv420p", "libx265": "yuv420p", "libsvtav1": "yuv420p", "libvpx": "yuv420p", "libvpx-vp9": "yuv420p",
    "mpeg1video": "yuv420p", "mpeg2video": "yuv420p", "mpeg4": "yuv420p", "msmpeg4v2": "yuv420p",
    "msmpeg4": "yuv420p", "wmv1": "yuv420p", "wmv2": "yuv420p", "flv": "yuv420p", "h263": "yuv420p",
    "h261": "yuv420p", "mjpeg": "yuvj420p", "png": "rgb24", "apng": "rgb24", "gif": "rgb8", "ffv1": "yuv420p",
    "huffyuv": "yuv422p", "ffvhuff": "yuv420p", "utvideo": "yuv420p", "magicyuv": "yuv420p",
    "prores_ks": "yuv422p10le", "rawvideo": "yuv420p", "snow": "yuv420p", "dvvideo": "yuv420p", "cinepak": "rgb24",
    "jpeg2000": "rgb24", "qtrle": "rgb24", "dirac": "yuv420p", "rv10": "yuv420p", "rv20": "yuv420p",
    "asv2": "yuv420p", "svq1": "yuv410p", "cfhd": "yuv422p10le", "zmbv": "bgr0", "flashsv": "bgr24",
    "msvideo1": "rgb555le", "rpza": "rgb555le", "jpegls": "rgb24", "ljpeg": "yuvj420p", "v210": "yuv422p10le",
    "speedhq": "yuv420p",
}  # fmt: skip
"""Encoder -> its pixel format."""
_SIZES = {"h263": (176, 144), "h261": (176, 144), "dvvideo": (720, 576)}
_OPTIONS = {
    "libx265": {"x265-params": "log-level=none:pools=1:frame-threads=1"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}
_RATE, _N_FRAMES, _N_FRAMES_DV = 12, 36, 4


@dataclass(frozen=True)
class Whole:
    """A video that opens, before anything is done to it."""

    suffix: str
    codec: str
    data: bytes


def whole_videos(folder: Path, rng: random.Random) -> Iterator[Whole]:
    """Every pair of a container and a codec that can be written and opened again, in random order."""
    pairs = [(suffix, codec) for suffix in CONTAINERS for codec in CODECS]
    rng.shuffle(pairs)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, codec in pairs:
        path = folder / f"{codec}.{suffix}"
        try:
            _write(path, suffix, codec)
            with Video(str(path)):
                pass
        except (av.error.FFmpegError, VideoError, ValueError, OSError):  # these two do not go together
            continue
        yield Whole(suffix, codec, path.read_bytes())


def _write(path: Path, suffix: str, codec: str) -> None:
    """Three seconds of a square that moves over a changing grey."""
    width, height = _SIZES.get(codec, (96, 64))
    fragmented = {"movflags": "frag_keyframe+empty_moov"} if suffix == "fmp4" else {}
    with av.open(str(path), "w", format=CONTAINERS[suffix], options=fragmented) as container:
        options = _OPTIONS.get(codec, {"strict": "-2"})
        rate = 25 if codec in ("mpeg1video", "mpeg2video", "dvvideo") or suffix == "mxf" else _RATE
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, CODECS[codec]
        stream.codec_context.thread_count, stream.codec_context.gop_size = 1, 12
        for i in range(_N_FRAMES_DV if codec == "dvvideo" else _N_FRAMES):
            pixels = np.full((height, width, 3), i * 37 % 255, np.uint8)
            pixels[8:40, i : i + 32] = (255, 20 * i % 255, 30)
            frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=CODECS[codec])
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


_HEADER, _LEAST = 1024, 16
_SIZE_VALUES = (0, 1, 7, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` after one to three of the ways in which files are damaged, or made by someone who means harm."""
    damaged_data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if len(damaged_data) >= _LEAST:
            damaged_data = rng.choice(_WAYS)(damaged_data, other, rng)
    return bytes(damaged_data)


def _somewhere(data: bytearray, rng: random.Random) -> int:
    """Every other time in what is a header's place: the start, or the end of files that have theirs there."""
    n = len(data) - 8
    near = min(n, rng.randrange(_HEADER))
    return rng.choice((near, max(0, n - 1 - near), rng.randrange(n), rng.randrange(n)))


def _flip_bits(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 4, 16, 64))):
        data[_somewhere(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _cut(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    return data[: rng.randrange(1, len(data))]


def _drop(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    at = _somewhere(data, rng)
    del data[at : at + rng.randrange(1, 1 + len(data) // 4)]
    return data


def _repeat(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    at = _somewhere(data, rng)
    chunk = data[at : at + rng.randrange(1, 1 + len(data) // 4)]
    return data[:at] + chunk * rng.choice((2, 2, 5)) + data[at:]


def _overwrite(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    at, n = _somewhere(data, rng), rng.choice((4, 32, 256))
    data[at : at + n] = rng.choice((bytes(n), b"\xff" * n, rng.randbytes(n)))
    return data


def _number(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    """A field of a header says something else: nothing, one, as much as it can, or anything."""
    at, width = _somewhere(data, rng), rng.choice((1, 2, 4, 8))
    value = rng.choice((*_SIZE_VALUES, rng.getrandbits(64))) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))
    return data


def _size_of_a_box(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    """The number before or after one of the four-letter names by which MP4, AVI and their like tell parts apart."""
    names = [at for at in range(4, len(data) - 8) if data[at : at + 4].isalpha() and data[at : at + 4].isascii()]
    if not names:
        return _number(data, other, rng)
    at = rng.choice(names) + rng.choice((-4, 4, 8, 16))
    value = rng.choice((*_SIZE_VALUES, rng.getrandbits(32)))
    data[max(0, at) : max(0, at) + 4] = value.to_bytes(4, rng.choice(("big", "little")))
    return data


def _splice(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    """The start of one file and the end of another."""
    return data[: rng.randrange(1, len(data))] + bytearray(other[rng.randrange(len(other)) :])


_WAYS = (_flip_bits, _flip_bits, _cut, _drop, _repeat, _overwrite, _number, _number, _size_of_a_box, _splice)
