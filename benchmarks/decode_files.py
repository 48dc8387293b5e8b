"""The files that `benchmarks/decode.py` measures on: made once, by codec, lines and group of pictures."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from qasir.demo.corpus import FRAME_RATE, frames, plan_corpus

RATE = Fraction(30_000, 1001)
_LOOP_S = 10
"""Encoded once, then repeated packet by packet, so that long groups of pictures cost no more to make."""
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error:open-gop=0"}),
    "av1": ("libsvtav1", {"preset": "11", "crf": "22"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "row-mt": "0"}),
}
HEIGHTS, GOPS = (360, 1080, 2160), (1, 2, 5, 10)
_BITS_A_PIXEL = {"h264": 0.09, "hevc": 0.055, "vp9": 0.06}
"""What streaming services send, about: decoding costs by the bit too."""


@dataclass(frozen=True)
class File:
    """A made file: `gop` seconds from keyframe to keyframe."""

    codec: str
    height: int
    gop: int
    path: str
    duration_s: float


def make(work: Path, codec: str, height: int, gops: Sequence[int], loops: int) -> list[File]:
    """One file for each GOP, all encoded beside each other from the same pictures; made once."""
    files = []
    with ExitStack() as stack:
        encoders: list[tuple[Any, Any]] = []
        new: list[tuple[Path, Path]] = []
        for gop in gops:
            path = work / f"{codec}_{height}_gop{gop}_x{loops}.mp4"
            files.append(File(codec, height, gop, str(path), float(loops * _n_frames() / RATE)))
            if path.exists():
                continue
            once = path.with_suffix(".once.mp4")
            container = stack.enter_context(av.open(str(once), "w", format="mp4"))
            encoders.append((container, _stream(container, codec, height, gop)))
            new.append((once, path))
        if encoders:
            for picture in _pictures(height):
                for container, stream in encoders:
                    container.mux(stream.encode(picture))
            for container, stream in encoders:
                container.mux(stream.encode(None))
    # SVT-AV1, where it may, gives this thread real-time priority, and what it starts inherits that.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    for once, path in new:
        _repeat(once, path, loops)
        once.unlink()
    return files


def _n_frames() -> int:
    return round(_LOOP_S * RATE)


def _stream(container: Any, codec: str, height: int, gop: int) -> Any:
    encoder, options = CODECS[codec]
    n = str(round(gop * RATE))
    stream = container.add_stream(encoder, rate=RATE, options={**options, "g": n, "keyint_min": n})
    stream.width, stream.height, stream.pix_fmt = height * 16 // 9, height, "yuv420p"
    if "crf" not in options:
        stream.bit_rate = round(_BITS_A_PIXEL[codec] * stream.width * height * RATE / (height / 360) ** 0.5)
    stream.codec_context.thread_count = 1
    return stream


def _pictures(height: int) -> Iterator[VideoFrame]:
    """Moments of the demo, panned so that everything moves, with a little noise."""
    width = height * 16 // 9
    noise = np.random.default_rng(0).integers(0, 12, (height, width, 3), np.uint8)
    pictures = list(frames(plan_corpus(2, 99)[0][0]))
    held: tuple[int, np.ndarray] | None = None
    for i in range(_n_frames()):
        number = int(i * FRAME_RATE / RATE) % len(pictures)
        if held is None or held[0] != number:
            drawn = VideoFrame.from_ndarray(pictures[number], format="rgb24").reformat(width, height, "rgb24")
            held = number, drawn.to_ndarray() // 2
        moved = np.roll(held[1], 2 * i * height // 360, axis=1) + np.roll(noise, 7 * i, axis=0)
        picture = VideoFrame.from_ndarray(moved, format="rgb24").reformat(format="yuv420p")
        picture.pts, picture.time_base = i, 1 / RATE
        yield picture


def _repeat(once: Path, path: Path, loops: int) -> None:
    """The packets of a file, several times after each other."""
    with av.open(str(path.with_suffix(".partial")), "w", format="mp4") as out:
        stream = None
        for loop in range(loops):
            with av.open(str(once)) as container:
                (read,) = container.streams.video
                stream = stream or out.add_stream_from_template(read, opaque=True)
                assert read.time_base is not None
                shift = round(loop * _n_frames() / RATE / read.time_base)
                for packet in container.demux(read):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)
    os.replace(path.with_suffix(".partial"), path)
