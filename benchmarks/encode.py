"""Measures encoding as ratios taken in one run, on rendered 640x360, 25 fps, H.264 files; `hours` at 1080p and on given
footage too.

python benchmarks/encode.py [--part ceiling --part usual ...] [--footage FOLDER] [--work build/encode_benchmark]

Real architectures get random weights: speed does not depend on what they are. Rates are video-seconds per second;
start-up (Ray, loading models) is left out of them and reported apart.
"""

import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import torch
import typer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from decode_files import make
from PIL import Image
from startup import startup

from pipelines.cluster import connect
from pipelines.encode import encode_corpus
from qasir.demo.corpus import FRAME_RATE, frames, plan_corpus
from qasir.encoding.decode import decode_segments
from qasir.encoding.models import Target
from qasir.encoding.options import MAX_GAP_S
from qasir.encoding.prepare import library_version
from qasir.encoding.rows import plan_table, whole_video
from qasir.index.index import Index
from qasir.index.spec import EncoderSpec
from qasir.video.container import Clock, Video
from qasir.video.corpus import list_videos
from qasir.video.super_image import Sampling
from qasir.vlm.model import Vlm
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.weights import VlmSource, resolve

WIDTH, HEIGHT, FPS = 640, 360, 25
GOPS = (12, 30, 60, 250)
PARTS = ("ceiling", "dense", "usual", "gop", "videos", "memory", "startup", "hours")
_MODEL_S = 4.0
"""How long a model is timed, at least."""


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"Which of {', '.join(PARTS)}.", show_default="all")] = None,
    model: Annotated[list[str] | None, typer.Option(help="For dense and usual.", show_default="both")] = None,
    footage: Annotated[Path | None, typer.Option(help="A folder of real videos, for hours.")] = None,
    work: Annotated[Path, typer.Option()] = Path("build/encode_benchmark"),
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads, fp32, 1 sample a "
        "second\n"
    )
    kept = work / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if set(part or PARTS) - {"gop", "startup"}:
        warm_up(work)
    models = model or ["ViT-B-32", "ViT-L-14"]
    runs: dict[str, Callable[[Path], Any]] = {
        "ceiling": ceiling, "dense": lambda work: dense(work, models), "usual": lambda work: usual(work, models),
        "gop": gop, "videos": per_video, "memory": memory,
        "startup": startup, "hours": lambda work: hours(work, footage),
    }  # fmt: skip
    for name in PARTS:
        if name in (part or PARTS):
            results[name] = runs[name](work)
            kept.write_text(json.dumps(results, indent=2) + "\n")
            print(flush=True)


# The material


def render(
    folder: Path, n_videos: int, duration_s: float, *, gop: int = 250, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Path:
    """Moments of the demo, panned so that everything moves, with a little noise; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 12, (size[1], size[0], 3), np.uint8)
    for number, video in enumerate(plan_corpus(max(2, n_videos), 99)[0][:n_videos]):
        path = folder / f"v{number:04}.mp4"
        if path.exists():
            continue
        with av.open(str(folder / "partial"), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "g": str(gop)})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for i, pixels in enumerate(_looped(video, duration_s)):
                frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(*size, "rgb24").to_ndarray()
                frame = np.roll(frame // 2 + noise, 2 * i, axis=1)
                container.mux(stream.encode(VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
        os.replace(folder / "partial", path)
    return folder


def _looped(video: Any, duration_s: float) -> Iterator[np.ndarray]:
    n, pictures = int(duration_s * FPS), list(frames(video))
    for i in range(n):
        yield pictures[i * FRAME_RATE // FPS % len(pictures)]


def source(model: str, work: Path) -> VlmSource:
    """qasir-tiny, or a real architecture with random weights in a checkpoint file."""
    if model == "qasir-tiny":
        return resolve(model)
    path = work / f"{model}.pt"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(open_clip.create_model(model).state_dict(), path)
    return resolve(model, str(path))


@cache
def loaded(name: str, work: Path) -> tuple[VlmSource, Vlm]:
    model = source(name, work)
    return model, Vlm(model, device="cpu")


def spec_of(model: VlmSource, vlm: Vlm, grid: int) -> EncoderSpec:
    return EncoderSpec(
        model=model.model, pretrained=model.pretrained, weights="benchmark", grid=grid, image_size=vlm.image_size,
        fps=1.0, embedding_dim=vlm.embedding_dim, precision="fp32", cells=False, thumbnails=False,
        library_version=library_version(),
    )  # fmt: skip


# The stages alone, and the pipeline


def decoder_alone(folder: Path, spec: EncoderSpec) -> float:
    """D: video-seconds per second of decoding and tiling, on all cores."""
    files = list_videos(str(folder)).videos
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        list(pool.map(_decode_one, files[: os.cpu_count() or 1], [spec] * len(files)))  # the processes are up
        since = time.perf_counter()
        total = sum(pool.map(_decode_one, files, [spec] * len(files)))
        return total / (time.perf_counter() - since)


def _decode_one(file: Any, spec: EncoderSpec) -> float:
    (row,) = plan_table([file], {file.video_id: {0: []}}).to_pylist()
    *_, last = decode_segments(whole_video(row), [spec])
    return last.reports["duration_s"][0].as_py()


def model_alone(vlm: Vlm) -> float:
    """Super images per second of the model on all cores. A slow model gets smaller batches."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, vlm.image_size, vlm.image_size, 3), np.uint8)
    vlm.encode_images(pixels[:2])
    since = time.perf_counter()
    vlm.encode_images(pixels[:2])
    pixels = pixels[: max(2, int(2 * _MODEL_S / (time.perf_counter() - since)))]
    vlm.encode_images(pixels)
    n, since = 0, time.perf_counter()
    while time.perf_counter() - since < _MODEL_S:
        vlm.encode_images(pixels)
        n += len(pixels)
    return n / (time.perf_counter() - since)


def pipeline(folder: Path, model: VlmSource, spec: EncoderSpec, n_videos: int) -> tuple[float, float]:
    """(video-seconds per second, seconds of start-up) of encoding so many videos.

    Start-up is what one tiny video takes; the rate is all that the long run did over what it took longer than that.
    That models load slower beside busy decoders counts against it.
    """
    work = folder.parent
    tiny = links(render(work / "tiny", 20, 2.0, size=(160, 96)), 1)
    startup = _run(tiny, model, spec)[1]
    done, seconds = _run(links(folder, n_videos), model, spec)
    return done / (seconds - startup), startup


def _run(folder: Path, model: VlmSource, spec: EncoderSpec) -> tuple[float, float]:
    """(video-seconds, seconds) of encoding a folder."""
    corpus = list_videos(str(folder))
    with tempfile.TemporaryDirectory() as place:
        index = Index.open_or_new(f"{place}/index", spec, corpus.root)
        (summary,) = encode_corpus(corpus, [Target(index, model)])
    assert summary.failed == 0
    return summary.video_seconds, summary.seconds


def warm_up(work: Path) -> None:
    """Starts Ray and fills the caches that everybody's first run fills."""
    model = source("qasir-tiny", work)
    _run(render(work / "tiny", 20, 2.0, size=(160, 96)), model, spec_of(model, Vlm(model, device="cpu"), 1))


def links(folder: Path, n: int) -> Path:
    originals = sorted(folder.glob("v*.mp4"))
    part = folder.parent / f"{folder.name}_{n}"
    part.mkdir(exist_ok=True)
    for i in range(n):
        if not (part / f"v{i:04}.mp4").exists():
            (part / f"v{i:04}.mp4").symlink_to(originals[i % len(originals)].resolve())
    return part


N_RENDERED, N_AT_ONCE = 6, 24
CLIP_S, LONG_S = 20.0, 120.0
LASTS_S, LEAST_IMAGES = 120.0, 100
"""Long enough that models loaded a second time and processes started, some ten seconds of a CPU, weigh little."""


@cache
def against_ceiling(
    work: Path, name: str, grid: int, each_s: float | None = None
) -> tuple[float, float, float, float, float]:
    """(D, E, ceiling = 1 / (1 / D + 1 / E), pipeline, start-up s). D and E, the decoder and the model alone on all
    cores, are measured before and after the pipeline and averaged, since machines drift. Measured once, though two
    tables show it.

    each_s: the length of a video; long ones where the model is fast enough for a run of several, and where clips would
    leave much of their last super image empty.
    """
    model, vlm = loaded(name, work)
    spec = spec_of(model, vlm, grid)
    images_per_s = model_alone(vlm)
    if each_s is None:
        each_s = LONG_S if grid > 2 or LASTS_S * images_per_s * grid**2 >= N_AT_ONCE * LONG_S else CLIP_S
    folder = render(work / f"videos_{each_s:.0f}", N_RENDERED, each_s)
    few = links(folder, N_AT_ONCE)
    images_a_video = math.ceil(each_s / grid**2)
    seconds_an_image = each_s / images_a_video
    before = decoder_alone(few, spec), images_per_s * seconds_an_image
    expected = 1 / (1 / before[0] + 1 / before[1])
    n_videos = max(math.ceil(LEAST_IMAGES / images_a_video), round(LASTS_S * expected / each_s))
    rate, startup = pipeline(folder, model, spec, n_videos)
    after = decoder_alone(few, spec), model_alone(vlm) * seconds_an_image
    d, e = ((x + y) / 2 for x, y in zip(before, after, strict=True))
    return d, e, 1 / (1 / d + 1 / e), rate, startup


def ceiling(work: Path) -> Any:
    """The pipeline against its ceiling. Clips of 20 seconds show what each video costs besides its frames."""
    print("| model | N | a video, s | D | E | ceiling | pipeline | ratio | start-up s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for name in ("qasir-tiny", "ViT-B-32"):
        lengths = (CLIP_S, LONG_S) if name == "qasir-tiny" else (CLIP_S,)
        for grid, each_s in itertools.product((1, 3), lengths):
            d, e, top, rate, startup = against_ceiling(work, name, grid, each_s)
            print(
                f"| {name} | {grid} | {each_s:.0f} | {d:.0f} | {e:.0f} | {top:.0f} | {rate:.0f} | {rate / top:.2f} | "
                f"{startup:.1f} |",
                flush=True,
            )
            rows.append(
                {"model": name, "grid": grid, "each_s": each_s, "D": d, "E": e, "ceiling": top, "pipeline": rate}
            )
    return rows


def dense(work: Path, models: Sequence[str]) -> Any:
    """Super images against dense frames (grid 1), the whole pipeline, beside what the stage times allow."""
    print(
        "| model | N | ceiling | pipeline | over N = 1 | allowed | share |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    rows = []
    for name in models:
        base = base_top = 0.0
        for grid in (1, 2, 3, 4, 5):
            _, _, top, rate, _ = against_ceiling(work, name, grid)
            base, base_top = base or rate, base_top or top
            gain, allowed = rate / base, top / base_top
            print(
                f"| {name} | {grid} | {top:.1f} | {rate:.1f} | {gain:.2f} | {allowed:.2f} | {gain / allowed:.2f} |",
                flush=True,
            )
            rows.append({"model": name, "grid": grid, "pipeline": rate, "gain": gain, "allowed": allowed})
    return rows


# The usual way


def usual_way(folder: Path, name: str, checkpoint: str, *, convert_all: bool = True) -> float:
    """Video-seconds per second of the script people write: every frame to RGB (or sampled ones only), PIL resize and
    open_clip's preprocessing per sampled frame, one video a batch; FFmpeg and torch use all cores."""
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=checkpoint)
    model.eval()
    total, since = 0.0, time.perf_counter()
    for path in sorted(folder.glob("v*.mp4")):
        images, k = [], 0
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                rgb = frame.to_ndarray(format="rgb24") if convert_all else None
                if frame.time >= k:
                    pixels = rgb if rgb is not None else frame.to_ndarray(format="rgb24")
                    images.append(preprocess(Image.fromarray(pixels)))
                    k += 1
            total += _seconds(stream)
        with torch.no_grad():
            torch.nn.functional.normalize(model.encode_image(torch.stack(images)), dim=-1)
    return total / (time.perf_counter() - since)


def usual(work: Path, models: Sequence[str]) -> Any:
    """Ours against the usual way at the same sampling rate and precision."""
    folder = render(work / f"videos_{CLIP_S:.0f}", N_RENDERED, CLIP_S)
    print(
        "| model | usual way | converting sampled frames only | ours N = 1 | x | ours N = 3 | x | x (sampled only) | "
        "over N = 1 | allowed |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for name in models:
        model, _ = loaded(name, work)
        mine = links(folder, 12 if name == "ViT-B-32" else 2)
        theirs = usual_way(mine, name, model.pretrained)
        lean = usual_way(mine, name, model.pretrained, convert_all=False)
        ours, top = {}, {}
        for grid in (1, 3):
            _, _, top[grid], ours[grid], _ = against_ceiling(work, name, grid)
        print(
            f"| {name} | {theirs:.1f} | {lean:.1f} | {ours[1]:.1f} | {ours[1] / theirs:.2f} | {ours[3]:.1f} | "
            f"{ours[3] / theirs:.2f} | {ours[3] / lean:.2f} | {ours[3] / ours[1]:.2f} | {top[3] / top[1]:.2f} |",
            flush=True,
        )
        allowed = top[3] / top[1]
        rows.append(
            {"model": name, "usual": theirs, "sampled_only": lean, "n1": ours[1], "n3": ours[3], "allowed": allowed}
        )
    return rows


def gop(work: Path) -> Any:
    """Decoding what samples depend on against decoding everything, one thread, by GOP length."""
    print("| GOP | full decode, x real time | " + " | ".join(f"{f:g} fps: ours / full" for f in (0.2, 1, 5)) + " |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for length in GOPS:
        folder = render(work / f"gop_{length}", 2, 120.0, gop=length)
        full = _rate(folder, _decode_all)
        ratios = [_rate(folder, partial(_sample, rate=f)) / full for f in ("0.2", "1", "5")]
        print(f"| {length} | {full:.0f} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |", flush=True)
        rows.append({"gop": length, "full": full, "ratios": ratios})
    return rows


def _rate(folder: Path, read: Callable[[Path], float]) -> float:
    best = 0.0
    for _ in range(3):
        since = time.perf_counter()
        total = sum(read(path) for path in sorted(folder.glob("v*.mp4")))
        best = max(best, total / (time.perf_counter() - since))
    return best


def _decode_all(path: Path) -> float:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass
        return _seconds(stream)


def _seconds(stream: VideoStream) -> float:
    assert stream.duration is not None
    assert stream.time_base is not None
    return float(stream.duration * stream.time_base)


def _sample(path: Path, rate: str) -> float:
    with Video(str(path)) as video:
        samples = video.samples([Clock(Fraction(rate))])
        while True:
            try:
                next(samples)
            except StopIteration as end:
                return end.value.duration_s or 0.0


def per_video(work: Path) -> Any:
    """Cost a video of tiny videos: it must not grow with their number."""
    folder = render(work / "tiny", 20, 2.0, size=(160, 96))
    model = source("qasir-tiny", work)
    spec = spec_of(model, Vlm(model, device="cpu"), 1)
    print("| videos | seconds | ms for each after the first 10 |\n| --- | --- | --- |")
    rows: list[tuple[int, float]] = []
    for n in (10, 100, 1000):
        corpus = list_videos(str(links(folder, n)))
        with tempfile.TemporaryDirectory() as place:
            index = Index.open_or_new(f"{place}/index", spec, corpus.root)
            (summary,) = encode_corpus(corpus, [Target(index, model)])
        rows.append((n, summary.seconds))
        each = 1000 * (summary.seconds - rows[0][1]) / max(1, n - rows[0][0])
        print(f"| {n} | {summary.seconds:.1f} | {each:.0f} |", flush=True)
    return rows


def memory(work: Path) -> Any:
    """Peak memory for ten minutes and for three hours of video: one decoding process, and the whole job on this
    machine."""
    print("| video | one decoding process, MiB | the whole job over idle, MiB | video-seconds per second |")
    print("| --- | --- | --- | --- |")
    model = source("qasir-tiny", work)
    spec = spec_of(model, Vlm(model, device="cpu"), 3)
    connect()
    rows = []
    for minutes in (10, 180):
        folder = render_long(work / f"long_{minutes}", minutes)
        one = subprocess.run(
            [sys.executable, __file__, "--peak-of", str(next(folder.glob("v*.mp4")))],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        corpus = list_videos(str(folder))
        with tempfile.TemporaryDirectory() as place, _LeastFree() as free:
            index = Index.open_or_new(f"{place}/index", spec, corpus.root)
            (summary,) = encode_corpus(corpus, [Target(index, model)])
        rate = summary.video_seconds / summary.seconds
        print(f"| {minutes} min | {float(one):.0f} | {free.taken_mib:.0f} | {rate:.0f} |", flush=True)
        rows.append({"minutes": minutes, "process": float(one), "job": free.taken_mib, "rate": rate})
    return rows


SAMPLINGS: tuple[Sampling, ...] = ("uniform", "keyframes")
HOURS_S = 45.0
"""How long a run of `hours` lasts, about, after its start-up."""


def hours(work: Path, footage: Path | None) -> Any:
    """Hours of video encoded an hour, start-up left out: rendered 360p and 1080p, and given footage, by model, N and
    sampling."""
    corpora = {"360p, rendered": render(work / f"videos_{LONG_S:.0f}", N_RENDERED, LONG_S)}
    corpora["1080p, made"] = work / "hours_1080"
    corpora["1080p, made"].mkdir(exist_ok=True)
    for file in make(work, "h264", 1080, (2,), 6):
        _link(Path(file.path), corpora["1080p, made"] / "v0000.mp4")
    if footage is not None:
        corpora[footage.name] = footage
    print("| footage | model | N | sampling | hours an hour | start-up s | bound by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for (name, folder), model_name in itertools.product(corpora.items(), ("qasir-tiny", "ViT-B-32")):
        model, vlm = loaded(model_name, work)
        choices: list[tuple[int, Sampling]] = [(grid, sampling) for grid in (1, 3) for sampling in SAMPLINGS]
        for grid, sampling in choices:
            max_gap_s = MAX_GAP_S if sampling == "keyframes" else 0.0
            spec = replace(spec_of(model, vlm, grid), sampling=sampling, max_gap_s=max_gap_s)
            rate, startup_s, bound = _hours_an_hour(work, folder, model, spec)
            print(
                f"| {name} | {model_name} | {grid} | {sampling} | {rate:,.0f} | {startup_s:.1f} | {bound} |", flush=True
            )
            rows.append({"footage": name, "model": model_name, "grid": grid, "sampling": sampling, "rate": rate})
    return rows


def _hours_an_hour(work: Path, folder: Path, model: VlmSource, spec: EncoderSpec) -> tuple[float, float, str]:
    """(hours of video an hour, seconds of start-up, the busiest stage): the same files again and again, as often as a
    first run says that HOURS_S takes."""
    n, rate = 8, 0.0
    for _ in range(2):
        corpus = list_videos(str(_again_and_again(work, folder, n)))
        with tempfile.TemporaryDirectory() as place:
            index = Index.open_or_new(f"{place}/index", spec, corpus.root)
            (summary,) = encode_corpus(corpus, [Target(index, model)])
        seconds = summary.seconds - summary.throughput["startup_s"]
        rate = summary.video_seconds / max(1e-3, seconds)
        n = max(n, math.ceil(n * HOURS_S / max(1e-3, seconds)))
    return rate, summary.throughput["startup_s"], summary.throughput["bottleneck"]


def _again_and_again(work: Path, folder: Path, n: int) -> Path:
    """Links to a folder's videos, n in all."""
    originals = [Path(video.uri) for video in list_videos(str(folder)).videos]
    part = work / f"hours_{folder.name}_{n}"
    part.mkdir(exist_ok=True)
    for i in range(n):
        original = originals[i % len(originals)]
        _link(original, part / f"v{i:05}{original.suffix}")
    return part


def _link(original: Path, link: Path) -> None:
    if not link.exists():
        link.symlink_to(original.resolve())


class _LeastFree:
    """How much less memory was available at the worst moment than at the start (Linux)."""

    def __enter__(self) -> "_LeastFree":
        self._start = self._least = self._now()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._poll, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._watch.join()

    @property
    def taken_mib(self) -> float:
        return (self._start - self._least) / 1024

    def _poll(self) -> None:
        while not self._over.wait(0.1):
            self._least = min(self._least, self._now())

    def _now(self) -> int:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0])


def render_long(folder: Path, minutes: int) -> Path:
    """One long video: a minute, copied without encoding it again."""
    path = folder / "v0000.mp4"
    if not path.exists():
        minute = render(folder.parent / "minute", 1, 60.0) / "v0000.mp4"
        folder.mkdir(parents=True, exist_ok=True)
        with av.open(str(folder / "partial"), "w", format="mp4") as output:
            stream = None
            for k in range(minutes):
                with av.open(str(minute)) as container:
                    original = container.streams.video[0]
                    stream = stream or output.add_stream_from_template(original)
                    assert original.duration is not None
                    shift = k * original.duration
                    for packet in container.demux(original):
                        if packet.pts is not None and packet.dts is not None:
                            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                            packet.stream = stream
                            output.mux(packet)
        os.replace(folder / "partial", path)
    return folder


def peak_of(path: str) -> None:
    """Decode a file as one segment, as a worker would, and print this process's peak memory in MiB."""
    file = list_videos(path).videos[0]
    spec = EncoderSpec("m", "", "w", grid=3, image_size=224, fps=1.0, embedding_dim=1, precision="fp32")
    (row,) = plan_table([file], {file.video_id: {0: []}}).to_pylist()
    for _ in decode_segments(whole_video(row), [spec]):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        peak_of(sys.argv[2])
    else:
        typer.run(main)
