"""Measures decoding and tiling alone, on one thread, against what else samples frames of a video.

python benchmarks/decode.py [--codec h264 ...] [--height 1080 ...] [--gop 2 ...] [--work build/decode_benchmark]

All take the same number of samples of the same made files (29.97 frames a second, panned and noisy, so that nothing
stands still) and shrink each to a cell of a super image. A figure is video-seconds a CPU-second, in a process of its
own, imports left out, of several runs the best: CPU-seconds, so that a busy machine changes little. FFmpeg runs as the
program `ffmpeg`, its start included. OpenCV, torchcodec and decord are measured where --python names an interpreter
that has them.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from decode_files import CODECS, GOPS, HEIGHTS, File, make

GRID, SIDE = 3, 224


@dataclass(frozen=True)
class Measured:
    """CPU-seconds of one way to sample one file. shares: {"decode", "scale", "tile"} of them, where they can be told
    apart."""

    codec: str
    height: int
    gop: int
    fps: float
    way: str
    n_samples: int
    cpu_s: float
    video_s: float
    shares: dict[str, float] | None = None

    @property
    def what(self) -> tuple[str, int, int, float, str]:
        """What was measured, whatever came of it."""
        return self.codec, self.height, self.gop, self.fps, self.way

    @property
    def speed(self) -> float:
        return self.video_s / self.cpu_s


def main(
    codec: Annotated[list[str] | None, typer.Option(help="Of " + ", ".join(CODECS), show_default="all")] = None,
    height: Annotated[list[int] | None, typer.Option(help="Lines.", show_default="360, 1080, 2160")] = None,
    gop: Annotated[list[int] | None, typer.Option(help="Seconds a keyframe.", show_default="1, 2, 5, 10")] = None,
    way: Annotated[list[str] | None, typer.Option(help="Which ways to sample.", show_default="all")] = None,
    fps: Annotated[float, typer.Option(help="Samples a second.")] = 0.5,
    loops: Annotated[int, typer.Option(help="Of 10 s that a file is long.")] = 6,
    repeats: Annotated[int, typer.Option(help="The best of so many runs counts.")] = 3,
    python: Annotated[
        str, typer.Option(help="An interpreter with opencv-python-headless, torchcodec, decord.")
    ] = sys.executable,
    make_only: Annotated[bool, typer.Option("--make-only", help="Make the files and stop.")] = False,
    work: Annotated[Path, typer.Option()] = Path("build/decode_benchmark"),
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    files = [
        file
        for lines in height or HEIGHTS
        for name in codec or CODECS
        for file in make(work, name, lines, tuple(gop or GOPS), loops)
    ]
    if make_only:
        return
    kept = work / "decode.json"
    found: list[Measured] = [Measured(**each) for each in json.loads(kept.read_text())] if kept.exists() else []
    for file in files:
        for name, measure in ways(python).items():
            if way and name not in way:
                continue
            results = [result for _ in range(repeats) if (result := measure(file, fps)) is not None]
            if not results:
                continue
            best = min(results, key=lambda result: result["cpu_s"])
            new = Measured(file.codec, file.height, file.gop, fps, name, video_s=file.duration_s, **best)
            found = [*(each for each in found if each.what != new.what), new]
            kept.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
            print(f"{file.codec} {file.height} lines, GOP {file.gop} s: {name}: {new.speed:,.1f}", flush=True)
    print(table(found))


# The ways to sample. Each runs in a process of its own and prints {n_samples, cpu_s, shares}.


def ways(python: str) -> dict[str, Callable[[File, float], dict[str, Any] | None]]:
    """{name: file, samples a second -> what it cost, None where it cannot be run}."""
    return {
        "qasir uniform": lambda file, fps: _in_python(sys.executable, "ours", file, fps, "uniform"),
        "qasir keyframes": lambda file, fps: _in_python(sys.executable, "ours", file, fps, "keyframes"),
        "ffmpeg fps,scale,tile": _ffmpeg_uniform,
        "ffmpeg nokey,scale,tile": _ffmpeg_keyframes,
        "pyav, every frame, PIL": lambda file, fps: _in_python(sys.executable, "pyav", file, fps),
        "opencv": lambda file, fps: _in_python(python, "opencv", file, fps),
        "torchcodec exact": lambda file, fps: _in_python(python, "torchcodec", file, fps, "exact"),
        "torchcodec approximate": lambda file, fps: _in_python(python, "torchcodec", file, fps, "approximate"),
        "decord": lambda file, fps: _in_python(python, "decord", file, fps),
    }


def _in_python(python: str, way: str, file: File, fps: float, *more: str) -> dict[str, Any] | None:
    script = Path(__file__).with_name("decode_ways.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(
        [python, str(script), way, file.path, str(fps), str(GRID), str(SIDE), *more],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        print(f"{way} {' '.join(more)}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not result["n_samples"]:
        print(f"{way} {' '.join(more)}: decodes nothing of {file.path}", file=sys.stderr)
        return None
    return result


def _ffmpeg_uniform(file: File, fps: float) -> dict[str, Any] | None:
    return _ffmpeg_tiled(file, f"fps={fps}", int(file.duration_s * fps) + 1)


def _ffmpeg_keyframes(file: File, fps: float) -> dict[str, Any] | None:
    thinned = f"select='isnan(prev_selected_t)+gte(floor(t*{fps}),floor(prev_selected_t*{fps})+1)'"
    n_samples = int(file.duration_s * min(fps, 1 / file.gop)) + 1
    return _ffmpeg_tiled(file, thinned, n_samples, ["-vsync", "0"], ["-skip_frame", "nokey"])


def _ffmpeg_tiled(
    file: File, thinned: str, n_samples: int, output: Sequence[str] = (), decoder: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Of frames that a filter leaves, beside what decoding alone takes."""
    cell = SIDE // GRID
    filters = f"{thinned},scale={cell}:{cell}:flags=bicubic,format=rgb24,tile={GRID}x{GRID}"
    whole = _ffmpeg(file, [*output, "-vf", filters], decoder)
    decoded = _ffmpeg(file, output, decoder)
    if whole is None or decoded is None:
        return None
    share = min(1.0, decoded / whole)
    return {"n_samples": n_samples, "cpu_s": whole, "shares": {"decode": share, "scale and tile": 1.0 - share}}


def _ffmpeg(file: File, output: Sequence[str], decoder: Sequence[str] = ()) -> float | None:
    """CPU-seconds of the program, on one thread."""
    program = shutil.which("ffmpeg")
    if program is None:
        print("there is no ffmpeg program", file=sys.stderr)
        return None
    before = _children_s()
    subprocess.run(
        [program, "-nostdin", "-loglevel", "error", "-threads", "1", *decoder, "-i", file.path, "-an",
         "-filter_threads", "1", *output, "-f", "null", "-"],
        check=True,
    )  # fmt: skip
    return _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# What is printed


def table(found: Sequence[Measured]) -> str:
    """Markdown: one row a file, one column a way, video-seconds a CPU-second; then the shares."""
    names = list(dict.fromkeys(each.way for each in found))
    lines = [f"{os.cpu_count()} cores, one thread each, {time.strftime('%Y-%m-%d')}", ""]
    for fps in sorted({each.fps for each in found}):
        lines += [f"{fps:g} samples a second:", ""]
        lines += [f"| codec | lines | GOP s | {' | '.join(names)} |", "| --- " * (3 + len(names)) + "|"]
        cells = {(e.codec, e.height, e.gop, e.way): e for e in found if e.fps == fps}
        for codec, height, gop in sorted({key[:3] for key in cells}, key=lambda key: (key[1], _order(key[0]), key[2])):
            row = [cells.get((codec, height, gop, name)) for name in names]
            speeds = [f"{each.speed:,.3g}" if each else "" for each in row]
            lines.append(f"| {codec} | {height} | {gop} | {' | '.join(speeds)} |")
        lines.append("")
    lines += ["| way | codec | lines | GOP s | shares |", "| --- | --- | --- | --- | --- |"]
    for each in found:
        if each.shares:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in each.shares.items())
            lines.append(f"| {each.way} | {each.codec} | {each.height} | {each.gop} | {shares} |")
    return "\n".join(lines)


def _order(codec: str) -> int:
    return list(CODECS).index(codec)


if __name__ == "__main__":
    typer.run(main)
