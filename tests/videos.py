"""Tiny real videos for the tests: flat grey frames whose brightness tells which frame they are."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame


def brightness(index: int) -> int:
    """The grey level of frame `index`; neighbours are far apart, and it repeats after 20 frames."""
    return 20 + (index * 77 % 20) * 11


def write_video(
    path: Path,
    n_frames: int = 30,
    *,
    rate: int = 10,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    rotation: float | None = None,
    color_range: int | None = None,
    picture: np.ndarray | None = None,
    pictures: Sequence[np.ndarray] | None = None,
) -> Path:
    """Frame i is flat `brightness(i)`, or pictures[i] (H, W, 3), or `picture` every time; `pts` are in ticks of `time_base`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if time_base is not None:
            stream.time_base = stream.codec_context.time_base = time_base
        if color_range is not None:
            stream.codec_context.color_range = color_range
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i in range(n_frames):
            pixels = np.full((size[1], size[0], 3), brightness(i), np.uint8) if picture is None else picture
            pixels = pixels if pictures is None else pictures[i].astype(np.uint8)
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_color_range=color_range)
            if pts is not None:
                frame.pts, frame.time_base = pts[i], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_audio(path: Path) -> Path:
    """A container with an audio stream only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(video, clocks, **options):
    """(the samples of an open video, how the reading ended)."""
    samples, taken = video.samples(clocks, **options), []
    while True:
        try:
            taken.append(next(samples))
        except StopIteration as stop:
            return taken, stop.value
