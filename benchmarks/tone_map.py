"""What mapping a high dynamic range to the standard one costs and how near FFmpeg's own mapping it is.

python benchmarks/tone_map.py --video demo/videos/00000.mp4 --video holiday_hdr.mov

Frames of a video of the standard range, from its middle, are first made PQ and HLG, with the white of BT.2408 (203
nits). Needs the program ffmpeg with zscale and tonemap (Debian's has them). CPU time of one thread.
"""

import subprocess
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from qasir.video.container import Video
from qasir.video.footage import Footage
from qasir.video.painter import FramePainter
from qasir.video.super_image import Cell
from qasir.video.tone_map import DEFAULT_PEAK_NITS, stated_peak, transfer_of

SIDES = (75, 112, 149, 224)
MAPPED = (
    "zscale=t=linear:npl=100:agamma=0,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,"
    "zscale=t=bt709:m=bt709:r=pc,format=rgb24"
)
"""FFmpeg's usual recipe, with HLG's OOTF by luminance as BT.2100 has it (agamma=0) and not channel by channel."""
_BRIGHTER = (
    "format=gbrp,setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr:range=pc,"
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt2020,"
)
MADE = {
    "pq": (f"{_BRIGHTER}zscale=t=smpte2084:m=bt2020nc:npl=203:r=tv", "smpte2084"),
    "hlg": (f"{_BRIGHTER}zscale=t=arib-std-b67:m=bt2020nc:npl=203:r=tv", "arib-std-b67"),
}
_N_FRAMES = 5
_TIMES = 20


def main(
    video: Annotated[list[Path], typer.Option(help="Of either range; several times for several.")],
) -> None:
    print("| video | range | cell | dB from FFmpeg's, mapped | untreated | ms a frame, mapped | untreated |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for path in video:
            for made in _of_high_range(path, Path(folder)):
                for side in SIDES:
                    _measure(path.name, made, side)


def _of_high_range(path: Path, folder: Path) -> list[Path]:
    if transfer_of(_frames(path, 1)[0]) is not None:
        return [path]
    with Video(str(path)) as video:
        middle_s = (video.stated_duration_s or 0.0) / 2
    made = []
    for name, (chain, transfer) in MADE.items():
        made.append(folder / f"{path.stem}_{name}.mkv")
        _ffmpeg(
            "-ss", middle_s, "-i", path, "-frames:v", "10", "-vf", f"{chain},format=yuv420p10le", "-an",
            "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:crf=12", "-color_trc", transfer,
            "-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-y", made[-1],
        )  # fmt: skip
    return made


def _measure(name: str, path: Path, side: int) -> None:
    frames = _frames(path, _N_FRAMES)
    peak = stated_peak(frames[0]) or DEFAULT_PEAK_NITS
    raw = _ffmpeg("-i", path, "-frames:v", str(_N_FRAMES), "-vf", MAPPED, "-f", "rawvideo", "-")
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, frames[0].height, frames[0].width, 3)
    errors: dict[bool, list[float]] = {True: [], False: []}
    costs: dict[bool, list[float]] = {True: [], False: []}
    painters = {mapped: FramePainter("squash", tone_map=mapped, peak_nits=peak) for mapped in (True, False)}
    for frame, pixels in zip(frames, theirs, strict=True):
        expected = _drawn(FramePainter("squash"), VideoFrame.from_ndarray(pixels, format="rgb24"), side)
        for mapped, painter in painters.items():
            errors[mapped].append(float(np.square(_drawn(painter, frame, side) - expected).mean()))
    for _ in range(_TIMES):
        for mapped, painter in painters.items():
            since = time.thread_time()
            _drawn(painter, frames[0], side)
            costs[mapped].append(time.thread_time() - since)
    decibels = [10 * np.log10(255**2 / np.mean(errors[mapped])) for mapped in (True, False)]
    ms = [1000 * float(np.median(costs[mapped])) for mapped in (True, False)]
    print(
        f"| {name} {frames[0].width}x{frames[0].height} | {transfer_of(frames[0])} | {side} | {decibels[0]:.1f} | "
        f"{decibels[1]:.1f} | {ms[0]:.2f} | {ms[1]:.2f} |"
    )


def _drawn(painter: FramePainter, frame: VideoFrame, side: int) -> NDArray[np.float64]:
    pixels = np.zeros((side, side, 3), np.uint8)
    painter.draw(frame, pixels, Cell(0, 0, side, side))
    return pixels.astype(float)


def _frames(path: Path, n: int) -> list[VideoFrame]:
    with Footage(str(path)) as footage:
        return [shown.frame for shown in islice(footage.frames(Fraction(0)), n)]


def _ffmpeg(*arguments: Any) -> bytes:
    command = ["ffmpeg", "-v", "error", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    typer.run(main)
