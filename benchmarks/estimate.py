"""Holds `encode_corpus.py --estimate` against the runs that follow it, on the demo and on a mixed corpus.

python benchmarks/estimate.py [--part demo --part mixed] [--every-choice] [--repeats 2] [--work DIRECTORY]

The mixed corpus has four resolutions, five codecs, keyframes from two to ten seconds apart, and lengths from ten
seconds to a quarter of an hour. Times are those of commands as people type them, on the clock, start-up and end
included; beside them what the stages took of cores, which a busy machine changes little. About eight minutes on two
idle cores, of which the first time two to make the videos.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer
from av.video.frame import VideoFrame

from qasir.demo.corpus import frames, plan_corpus
from qasir.demo.render import render_corpus

ROOT = Path(__file__).parents[1]
PARTS = ("demo", "mixed")
N_DEMO, N_MIXED = 40, 48
FPS, CLIP_S = 25, 10
MEDIAN_S, SHORTEST_S, LONGEST_S = 45.0, 10, 900
AIM = 0.25


@dataclass(frozen=True)
class Clip:
    """Ten seconds that files of any length are made of; share: how much of the corpus is of it."""

    name: str
    encoder: str
    size: tuple[int, int]
    gop_s: int
    share: float
    options: tuple[tuple[str, str], ...] = ()


_SVT = (("preset", "12"),)
_VP9 = (("deadline", "realtime"), ("cpu-used", "8"))
_X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none"))
_X264 = (("preset", "veryfast"),)
CLIPS = (
    Clip("h264_180.mp4", "libx264", (320, 180), 10, 0.15, _X264),
    Clip("h264_360.mp4", "libx264", (640, 360), 10, 0.2, _X264),
    Clip("h264_720.mp4", "libx264", (1280, 720), 5, 0.15, _X264),
    Clip("h264_1080.mp4", "libx264", (1920, 1080), 2, 0.15, _X264),
    Clip("hevc_360.mp4", "libx265", (640, 360), 5, 0.1, _X265),
    Clip("hevc_1080.mp4", "libx265", (1920, 1080), 5, 0.05, _X265),
    Clip("vp9_720.webm", "libvpx-vp9", (1280, 720), 5, 0.05, _VP9),
    Clip("av1_360.mkv", "libsvtav1", (640, 360), 5, 0.1, _SVT),
    Clip("mpeg4_360.avi", "mpeg4", (640, 360), 2, 0.05),
)


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"Which of {', '.join(PARTS)}.", show_default="both")] = None,
    every_choice: Annotated[bool, typer.Option("--every-choice", help="Run the neighbours too.")] = False,
    repeats: Annotated[int, typer.Option(help="So many estimates and runs, in turns.")] = 2,
    model: Annotated[str, typer.Option(help="A model that is here.")] = "qasir-tiny",
    work: Annotated[Path, typer.Option()] = Path("build/estimate_benchmark"),
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    made = {"demo": demo, "mixed": mixed}
    results: list[dict[str, Any]] = []
    for name in PARTS:
        if name in (part or PARTS):
            videos = made[name](work)
            for _ in range(repeats):
                for result in compared(name, videos, model, work, every_choice=every_choice):
                    results.append(result)
                    (work / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    print(f"\n{os.cpu_count()} CPUs; load of the last minute {os.getloadavg()[0]:.1f}; aim: within {100 * AIM:.0f} %")


def compared(name: str, videos: Path, model: str, work: Path, *, every_choice: bool) -> Iterator[dict[str, Any]]:
    """An estimate, and the runs of its choices."""
    index = work / "index"
    shutil.rmtree(index, ignore_errors=True)
    asked = ("--videos", str(videos), "--index", str(index), "--model", model)
    estimate, took_s = job(*asked, "--estimate")
    assert not index.exists(), "an estimate writes nothing"
    for choice in estimate["choices"] if every_choice else estimate["choices"][:1]:
        (settings,) = choice["settings"]
        options = ["--grid", settings["grid"], "--fps", settings["fps"], "--sampling", settings["sampling"]]
        shutil.rmtree(index, ignore_errors=True)
        run, seconds = job(*asked, *map(str, options))
        work_s = run["seconds"] - run["throughput"]["startup_s"]
        yield {
            "corpus": name, "choice": choice["choice"], "estimate_s": took_s, "sample": estimate["sample"],
            "seconds": choice["seconds"], "startup_s": choice["startup_s"], "took_s": seconds,
            "took_startup_s": seconds - work_s, "super_images": choice["super_images"],
            "super_images_were": run["super_images"], "bytes": choice["bytes"], "bytes_were": bytes_in(index),
            "hours": estimate["video_hours"], "hours_were": run["video_seconds"] / 3600, "bound": choice["bound"],
            "bound_was": run["throughput"]["bottleneck"], "cost": choice["cost"],
            "core_s_were": run["throughput"]["cpu_s"],
        }  # fmt: skip


def job(*args: str) -> tuple[dict[str, Any], float]:
    """What `encode_corpus.py` says, and its time on the clock."""
    command = [sys.executable, str(ROOT / "jobs" / "encode_corpus.py"), *args, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    since = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - since
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return facts, seconds


def bytes_in(index: Path) -> int:
    """Of the two tables that an estimate speaks of."""
    return sum(
        path.stat().st_size
        for name in ("videos", "super_images")
        for path in (index / f"{name}.lance").rglob("*.lance")
    )


def table(results: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| corpus | choice | time, estimated | was | error | start-up, estimated | was | encodings, estimated | were | "
        "hours, estimated | were | decoding, estimated | was | encoding, estimated | was | size, estimated over real | "
        "bound | was |",
        "|" + " --- |" * 18,
    ]
    for each in results:
        seconds = each["seconds"]
        held = "" if seconds["low"] <= each["took_s"] <= (seconds["high"] or np.inf) else ", outside"
        cells = [
            each["corpus"], each["choice"], _within(seconds, "{:.0f} s"), f"{each['took_s']:.0f} s",
            f"{100 * (seconds['value'] / each['took_s'] - 1):+.0f} %{held}", f"{each['startup_s']:.0f} s",
            f"{each['took_startup_s']:.0f} s", _within(each["super_images"], "{:,.0f}"),
            f"{each['super_images_were']:,}", _within(each["hours"], "{:.2f}"), f"{each['hours_were']:.2f}",
            f"{_decoding(each):.1f} core-s", f"{each['core_s_were']['decode']:.1f} core-s",
            f"{each['cost']['encode_s'] * each['super_images']['value']:.1f} s",
            f"{each['core_s_were']['encode']:.1f} s",
            f"{each['bytes'] / each['bytes_were']:.2f}", each["bound"], each["bound_was"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _decoding(each: dict[str, Any]) -> float:
    """Seconds of a core, with what writing takes."""
    return float(each["cost"]["decode_cpu_s"] * each["hours"]["value"] * 3600)


def _within(interval: dict[str, float | None], form: str) -> str:
    value, low, high = ("?" if each is None else form.format(each) for each in interval.values())
    return value if low == value == high else f"{value} ({low} to {high})"


# The videos, made once


def demo(work: Path) -> Path:
    render_corpus(work / "demo", N_DEMO, 0)
    return work / "demo" / "videos"


def mixed(work: Path) -> Path:
    """Files of clips repeated, their packets copied."""
    folder = work / "mixed"
    clips = [made_clip(work / "clips", clip) for clip in CLIPS]
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(CLIPS), N_MIXED, p=[clip.share for clip in CLIPS])
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_S), 1.0, N_MIXED), SHORTEST_S, LONGEST_S)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (at, length_s) in enumerate(zip(chosen.tolist(), lengths.tolist(), strict=True)):
        path = folder / f"v{number:03}{clips[at].suffix}"
        if not path.exists():
            repeated(clips[at], path, max(1, round(length_s / CLIP_S)))
    return folder


def made_clip(folder: Path, clip: Clip) -> Path:
    """Moments of the demo, panned so that everything moves, with a little noise."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / clip.name
    if path.exists():
        return path
    partial = folder / f"partial{path.suffix}"
    width, height = clip.size
    noise = np.random.default_rng(0).integers(0, 12, (height, width, 3), np.uint8)
    pictures = list(frames(plan_corpus(2, 99)[0][0]))
    with av.open(str(partial), "w") as container:
        stream: Any = container.add_stream(clip.encoder, rate=FPS, options=dict(clip.options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = clip.gop_s * FPS
        for i in range(CLIP_S * FPS):
            picture = VideoFrame.from_ndarray(pictures[i // 3 % len(pictures)], format="rgb24")
            pixels = np.roll(picture.reformat(width, height, "rgb24").to_ndarray() // 2 + noise, 2 * i, axis=1)
            container.mux(stream.encode(VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(partial, path)
    return path


def repeated(clip: Path, path: Path, times: int) -> None:
    partial = path.with_name(f"partial{path.suffix}")
    with av.open(str(clip)) as container:
        original = container.streams.video[0]
        packets = [(packet, packet.pts, packet.dts) for packet in container.demux(original) if packet.size]
        assert original.time_base is not None
        length = round(CLIP_S / original.time_base)
        with av.open(str(partial), "w") as output:
            stream = output.add_stream_from_template(original, opaque=True)
            for k in range(times):
                for packet, pts, dts in packets:
                    packet.pts = None if pts is None else pts + k * length
                    packet.dts = None if dts is None else dts + k * length
                    packet.time_base, packet.stream = original.time_base, stream
                    output.mux(packet)
    os.replace(partial, path)


if __name__ == "__main__":
    typer.run(main)
