"""One way to sample a video, measured: `benchmarks/decode.py` runs it in whatever interpreter has the library.

python benchmarks/decode_ways.py WAY PATH FPS GRID SIDE [MORE]

Prints JSON: n_samples, cpu_s (user and system time of this process after its imports) and shares. Each draws every
sample into a cell of SIDE / GRID pixels of a super image.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def ours(path: str, fps: float, grid: int, side: int, sampling: str) -> dict[str, Any]:
    from fractions import Fraction

    from qasir.video import tile
    from qasir.video.painter import FramePainter

    tiling = tile.Tiling(Fraction(str(fps)), grid, side, max_gap=Fraction(4) if sampling == "keyframes" else None)
    inside = {"scale": 0.0, "draw": 0.0}
    with _timed(FramePainter, "_scaled", inside, "scale"), _timed(FramePainter, "draw", inside, "draw"), _cpu() as used:
        n = sum(image.n_valid for image in tile.tile(path, tiling))
    total = used[0]
    shares = {
        "decode": 1.0 - inside["draw"] / total,
        "scale": inside["scale"] / total,
        "tile": (inside["draw"] - inside["scale"]) / total,
    }
    return {"n_samples": n, "cpu_s": total, "shares": shares}


def pyav(path: str, fps: float, grid: int, side: int) -> dict[str, Any]:
    """Every frame decoded; those on display at k / fps made pictures and resized by Pillow: what most scripts do."""
    import av
    from PIL import Image

    sheet = _Sheet(grid, side)
    inside = {"scale": 0.0}
    with _cpu() as used, av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        k = 0
        held = None
        for frame in container.decode(stream):
            while held is not None and frame.time > k / fps:
                since = time.process_time()
                sheet.add(np.asarray(held.to_image().resize((sheet.cell, sheet.cell), Image.Resampling.BICUBIC)))
                inside["scale"] += time.process_time() - since
                k += 1
            held = frame
    return _result(sheet.n, used[0], inside["scale"])


def opencv(path: str, fps: float, grid: int, side: int) -> dict[str, Any]:
    """grab() every frame, retrieve() the sampled ones."""
    import cv2

    cv2.setNumThreads(1)
    sheet = _Sheet(grid, side)
    inside = {"scale": 0.0}
    with _cpu() as used:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        rate = capture.get(cv2.CAP_PROP_FPS)
        number = k = 0
        while capture.grab():
            if number >= k * rate / fps:
                _, pixels = capture.retrieve()
                since = time.process_time()
                sheet.add(cv2.resize(pixels, (sheet.cell, sheet.cell), interpolation=cv2.INTER_AREA))
                inside["scale"] += time.process_time() - since
                k += 1
            number += 1
    return _result(sheet.n, used[0], inside["scale"])


def torchcodec(path: str, fps: float, grid: int, side: int, mode: str) -> dict[str, Any]:
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    sheet = _Sheet(grid, side)
    inside = {"scale": 0.0}
    with _cpu() as used:
        decoder = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode=mode)
        begin, end = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
        times = [begin + k / fps for k in range(int((end - begin) * fps) + 1) if begin + k / fps < end]
        for frame in decoder.get_frames_played_at(times).data.split(1):
            since = time.process_time()
            small = torch.nn.functional.interpolate(frame.float(), (sheet.cell, sheet.cell), mode="area")
            sheet.add(small[0].permute(1, 2, 0).byte().numpy())
            inside["scale"] += time.process_time() - since
    return _result(sheet.n, used[0], inside["scale"])


def decord(path: str, fps: float, grid: int, side: int) -> dict[str, Any]:
    import decord as library

    sheet = _Sheet(grid, side)
    with _cpu() as used:
        reader = library.VideoReader(path, num_threads=1, width=sheet.cell, height=sheet.cell)
        wanted = [int(k * reader.get_avg_fps() / fps) for k in range(int(len(reader) / reader.get_avg_fps() * fps) + 1)]
        for pixels in reader.get_batch([number for number in wanted if number < len(reader)]).asnumpy():
            sheet.add(pixels)
    return {"n_samples": sheet.n, "cpu_s": used[0], "shares": None}


class _Sheet:
    """A super image that is filled again and again."""

    def __init__(self, grid: int, side: int) -> None:
        self.cell = side // grid
        self.n = 0
        self._grid = grid
        self._pixels = np.zeros((side, side, 3), np.uint8)

    def add(self, pixels: Any) -> None:
        row, column = divmod(self.n % self._grid**2, self._grid)
        cell = self.cell
        self._pixels[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = pixels
        self.n += 1


def _result(n: int, cpu_s: float, scaling_s: float) -> dict[str, Any]:
    share = scaling_s / cpu_s
    return {"n_samples": n, "cpu_s": cpu_s, "shares": {"decode": 1.0 - share, "scale and tile": share}}


@contextmanager
def _cpu() -> Iterator[list[float]]:
    used = [0.0]
    since = time.process_time()
    yield used
    used[0] = time.process_time() - since


@contextmanager
def _timed(kind: type, name: str, into: dict[str, float], key: str) -> Iterator[None]:
    """CPU-seconds that a method takes, added up."""
    method = getattr(kind, name)

    def measured(*given: Any, **named: Any) -> Any:
        since = time.process_time()
        try:
            return method(*given, **named)
        finally:
            into[key] += time.process_time() - since

    setattr(kind, name, measured)
    yield
    setattr(kind, name, method)


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": ours,
    "pyav": pyav,
    "opencv": opencv,
    "torchcodec": torchcodec,
    "decord": decord,
}

if __name__ == "__main__":
    asked, file, rate, n, pixels, *rest = sys.argv[1:]
    print(json.dumps(WAYS[asked](file, float(rate), int(n), int(pixels), *rest)))
