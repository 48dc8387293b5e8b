"""Measures decoding on a GPU against all CPU cores of the same machine. Needs neither Ray nor Lance.

python benchmarks/hardware.py VIDEOS [--seconds 1.0] [--part decode ...] [--out results.json]

VIDEOS: a folder of short clips, of any codecs and sizes, each of which is repeated to a minute of video. What fails is
said and left out; the tables come last. The decoders are processes, as they are in a run, started once.

device    what the GPU is, how long it takes to get ready, the memory that a process on it takes
pixels    whether both decoders give the same samples, and how far apart their cells are
sampling  one sample a second into super images: seconds of video a second
whole     sampling, and ViT-L/14 with random weights in bf16 after it: hours of video an hour
limits    a segment decoded as a run does it, with its limits of time and memory
damage    what becomes of a file with damaged pictures
decode    every frame, left where it is decoded: frames a second
"""

import argparse
import json
import multiprocessing
import os
import queue
import resource
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet

from qasir.encoding.decode import decode_segments
from qasir.encoding.memory import DECODE_MEMORY
from qasir.encoding.rows import plan_table, whole_video
from qasir.errors import VideoError
from qasir.index.spec import EncoderSpec
from qasir.video.container import Video, video_stream
from qasir.video.corpus import list_files
from qasir.video.hardware import CPU, CUDA, Gpu, Gpus, gpu_places
from qasir.video.opening import open_container
from qasir.video.tile import Tiler, Tiling, Wanted, super_images

PARTS = ("device", "pixels", "sampling", "whole", "limits", "damage", "decode")
TILING = Tiling(Fraction(1), 3, 224)
MODEL = "ViT-L-14"
_LENGTH_S, _WAIT_S = 60, 60.0
_START_S = 0.4
_BATCH, _BATCH_ON_CPU = 128, 8
_OF_THE_WHOLE = ("h264_1080p", "hevc_2160p", "h264_2160p")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long a rate is measured")
    parser.add_argument("--places", type=int, action="append", help="processes on the GPU; default: 1, 8, 16")
    parser.add_argument("--at-most", type=float, default=200.0, help="no part begins after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("build/hardware.json"))
    asked = parser.parse_args()
    began = time.monotonic()
    results: dict[str, Any] = {}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.videos, Path(folder), asked.seconds, asked.places or [1, 8, 16])
        with closing(bench):
            for part in PARTS:
                if part not in (asked.part or PARTS) or time.monotonic() - began > asked.at_most:
                    continue
                since = time.monotonic()
                try:
                    results[part] = getattr(bench, part)()
                except Exception:
                    results[part] = {"failed": traceback.format_exc()}
                print(f"{part}: {time.monotonic() - since:.1f} s", flush=True)
                asked.out.write_text(json.dumps(results, indent=2) + "\n")
    for part, found in results.items():
        print(f"\n## {part}\n")
        _print(found)


# Processes that decode


class Process:
    """One process that does what it is asked to, one thing after another."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()

    def ask(self, task: str, *args: Any) -> None:
        self._ends.send((task, args))

    def answer(self) -> Any:
        """Raises RuntimeError with what went wrong there."""
        if not self._ends.poll(_WAIT_S):
            self.close()
            raise RuntimeError("a process does not answer")
        try:
            done, what = self._ends.recv()
        except EOFError:
            raise RuntimeError("a process has died") from None
        if not done:
            raise RuntimeError(what)
        return what

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(asked: Connection) -> None:
    while True:
        try:
            task, args = asked.recv()
        except EOFError:
            return
        try:
            asked.send((True, _TASKS[task](*args)))
        except BaseException:
            asked.send((False, traceback.format_exc(limit=-3)))


_gpu: list[Gpu] = []


def _ready(decoder: str) -> dict[str, float]:
    """Makes a process ready to decode; what that took."""
    before, since = _private_bytes(), time.perf_counter()
    if decoder == CUDA and not _gpu:
        if not gpu_places():
            raise RuntimeError("there is no GPU that decodes")
        _gpu.append(Gpu(0))
    return {"seconds": time.perf_counter() - since, "private MiB": (_private_bytes() - before) / 2**20}


def _private_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


def _video(path: str, decoder: str) -> Video:
    video = Video(path)
    video.gpu = _gpu[0] if decoder == CUDA else None
    return video


def _decode(path: str, decoder: str, at: float, seconds: float) -> dict[str, float]:
    """Every frame, over and over, from `at` on; frames a second."""
    gpu = _gpu[0] if decoder == CUDA else None
    container = open_container(path, gpu.accel if gpu else None)
    stream = video_stream(container)
    stream.codec_context.thread_count = 1
    codec: Any = gpu.decoder(stream.codec_context) if gpu else stream.codec_context

    def frames() -> Iterator[Any]:
        while True:
            for packet in container.demux(stream):
                if packet.size:
                    yield from codec.decode(packet)
            container.seek(0)
            codec.flush_buffers()

    found = frames()
    for _ in range(8):
        next(found)
    n = _counted(found, at, seconds)
    container.close()
    return n


def _sample(path: str, decoder: str, at: float, seconds: float) -> dict[str, float]:
    """A sample a second, drawn into super images; samples, and so seconds of video, a second."""

    def samples() -> Iterator[Any]:
        while True:
            with _video(path, decoder) as video:
                tiler = Tiler(Wanted(TILING), video.pixel_aspect)
                for sample in video.samples([tiler.clock]):
                    tiler.add(sample)
                    yield sample
                if video.fallback is not None:
                    raise RuntimeError(f"decoded on {video.decoder}: {video.fallback}")

    found = samples()
    for _ in range(3):
        next(found)
    return _counted(found, at, seconds)


def _counted(items: Iterator[Any], at: float, seconds: float) -> dict[str, float]:
    time.sleep(max(0.0, at - time.monotonic()))
    cpu, began, n = _cpu_s(), time.monotonic(), 0
    while (now := time.monotonic()) - began < seconds:
        next(items)
        n += 1
    return {"n": n, "seconds": now - began, "cpu_s": _cpu_s() - cpu}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _images(path: str, decoder: str) -> dict[str, Any]:
    """All samples of a clip: their frames' times, and the cells they are drawn into."""
    with _video(path, decoder) as video:
        tiler = Tiler(Wanted(TILING), video.pixel_aspect)
        times, images = [], []
        for sample in video.samples([tiler.clock]):
            times.append((sample.index, sample.frame.pts, sample.frame.format.name, sample.frame.rotation))
            images.append(tiler.add(sample))
        images.append(tiler.end(None))
        found = {"decoder": video.decoder, "fallback": video.fallback}
    return {**found, "times": times, "pixels": [image.pixels for image in images if image is not None]}


def _into(path: str, decoder: str, out: Any, until: float) -> None:
    """Super images of a video, over and over, into a queue."""
    while time.monotonic() < until:
        with _video(path, decoder) as video:
            for _, image in super_images(video, [Tiler(Wanted(TILING), video.pixel_aspect)]):
                while time.monotonic() < until:
                    try:
                        out.put(image.pixels, timeout=0.2)
                        break
                    except queue.Full:
                        continue


def _outcome(path: str, decoder: str) -> str:
    """What becomes of a file."""
    with _video(path, decoder) as video:
        try:
            n = sum(1 for _ in super_images(video, [Tiler(Wanted(TILING), video.pixel_aspect)]))
        except VideoError as error:
            return f"{error.kind}: {error}"
        return f"{n} super images, decoded on {video.decoder} ({video.fallback or 'as asked'})"


def _limited(path: str, decoder: str, limit: int | None) -> dict[str, Any]:
    """A file decoded as in a run; what its report says, and what the process holds afterwards."""
    (file,) = list_files([path]).videos
    (row,) = plan_table([file], {file.video_id: {0: []}}).to_pylist()
    before, since = _private_bytes(), time.perf_counter()
    with tempfile.TemporaryDirectory() as places:
        limits: Any = {"decoder": decoder, "memory_limit": limit, "time_limit_s": 60, "gpus": Gpus(Path(places))}
        parts = list(decode_segments(whole_video(row), [_spec()], **limits))
    (report,) = parts[-1].reports.to_pylist()
    return {
        **{name: report[name] for name in ("status", "decoder", "fallback", "error", "n_super_images")},
        "seconds": time.perf_counter() - since, "private MiB": (_private_bytes() - before) / 2**20,
    }  # fmt: skip


def _spec() -> EncoderSpec:
    return EncoderSpec(
        model="m", pretrained="p", weights="w", grid=TILING.grid, image_size=TILING.image_size, fps=1.0,
        embedding_dim=1, precision="fp32",
    )  # fmt: skip


_TASKS: dict[str, Callable[..., Any]] = {
    "ready": _ready, "decode": _decode, "sample": _sample, "images": _images, "outcome": _outcome, "limited": _limited,
    "into": _into,
}  # fmt: skip


# What is measured


class Bench:
    """The parts, over the clips of a folder. places: how many processes decode on the GPU at a time."""

    def __init__(self, clips: Path, work: Path, seconds: float, places: Sequence[int]) -> None:
        self._clips = sorted(path for path in clips.iterdir() if path.is_file())
        self._work = work
        self._seconds = seconds
        self._cores = os.cpu_count() or 1
        self._places = places
        self._processes: dict[str, list[Process]] = {CPU: [], CUDA: []}
        self._long: dict[Path, str] = {}
        self._gpu_mib: int | None = None

    def close(self) -> None:
        for process in [*self._processes[CPU], *self._processes[CUDA]]:
            process.close()

    def device(self) -> dict[str, Any]:
        before = _gpu_mib()
        first = self._some(CUDA, 1)[0]
        first.ask("ready", CUDA)
        first.answer()
        alone = _gpu_mib()
        ready: dict[str, Any] = {"torch": None, "ffmpeg": av.ffmpeg_version_info, "PyAV": av.__version__}
        process = Process()
        process.ask("ready", CUDA)
        ready |= {f"second process: {name}": round(value, 2) for name, value in process.answer().items()}
        ready |= {"GPU MiB a process": None if alone is None or before is None else alone - before}
        process.close()
        ready["cores"] = self._cores
        ready["GPU"] = _said(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
        import torch

        ready["torch"] = torch.__version__
        return ready

    def pixels(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for path in self._clips:
            with _said_of(rows, path):
                ours = self._each("images", str(path), [(CPU, 1), (CUDA, 1)])
                (on_cpu,), (on_gpu,) = ours
                row = {"clip": path.name, "decoder": on_gpu["decoder"], "fallback": on_gpu["fallback"]}
                apart = [np.abs(a.astype(int) - b) for a, b in zip(on_cpu["pixels"], on_gpu["pixels"], strict=True)]
                row["format"] = on_gpu["times"][0][2]
                row["samples"] = len(on_gpu["times"])
                row["same times"] = [t[:2] + t[3:] for t in on_cpu["times"]] == [t[:2] + t[3:] for t in on_gpu["times"]]
                row["largest difference"] = max(int(one.max()) for one in apart)
                row["mean difference"] = round(float(np.mean([one.mean() for one in apart])), 5)
                rows.append(row)
        return rows

    def sampling(self) -> list[dict[str, Any]]:
        return self._rates("sample", both=True)

    def decode(self) -> list[dict[str, Any]]:
        return self._rates("decode", both=False)

    def _rates(self, task: str, *, both: bool) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for path in self._clips:
            row: dict[str, Any] = {"clip": path.name}
            for kinds in [[(CPU, self._cores)], *([(CUDA, n)] for n in self._places), *self._both(both)]:
                name = " + ".join(f"{kind} x {n}" for kind, n in kinds)
                try:
                    found = self._each(task, self._looped(path), kinds, self._seconds)
                    each = [one for kind in found for one in kind]
                    row[name] = round(sum(one["n"] / one["seconds"] for one in each), 1)
                    if kinds == [(CUDA, 8)]:
                        row["cores busy then"] = round(sum(one["cpu_s"] / one["seconds"] for one in each), 2)
                        row["GPU MiB then"] = self._gpu_mib
                except Exception as error:
                    row[name] = _last_line(error)
            print(row, flush=True)
            rows.append(row)
        return rows

    def _both(self, wanted: bool) -> list[list[tuple[str, int]]]:
        return [[(CPU, self._cores), (CUDA, 8)]] if wanted and 8 in self._places else []

    def whole(self) -> list[dict[str, Any]]:
        import torch

        from qasir.vlm.model import Vlm
        from qasir.vlm.open_clip_import import open_clip
        from qasir.vlm.weights import resolve

        on_gpu = torch.cuda.is_available()
        name = MODEL if on_gpu else "qasir-tiny"
        weights = None
        if on_gpu:
            weights = str(self._work / "weights.pt")
            torch.save(open_clip.create_model(name).half().state_dict(), weights)
        vlm = Vlm(resolve(name, weights), image_size=TILING.image_size, precision="bf16")
        batch = _BATCH if on_gpu else _BATCH_ON_CPU
        noise = np.random.default_rng(0).integers(0, 255, (batch, 224, 224, 3), np.uint8)
        vlm.encode_images(noise)
        since, n = time.perf_counter(), 0
        while time.perf_counter() - since < self._seconds:
            n += len(vlm.encode_images(noise)[0])
        alone = n / (time.perf_counter() - since)
        print(f"{name} alone: {alone:.0f} images a second", flush=True)
        rows: list[dict[str, Any]] = []
        kinds: list[list[tuple[str, int]]] = [[(CPU, self._cores)], [(CUDA, 8)], [(CPU, self._cores), (CUDA, 8)]]
        for path in (p for p in self._clips if p.stem in _OF_THE_WHOLE or not on_gpu):
            row: dict[str, Any] = {"clip": path.name, f"{name} alone, images a second": round(alone)}
            for some in kinds:
                try:
                    rate = self._encoded(vlm, self._looped(path), some, batch, max(3.0, 3 * self._seconds))
                    row[" + ".join(f"{kind} x {n}" for kind, n in some)] = round(rate)
                except Exception as error:
                    row[str(some)] = _last_line(error)
            print(row, flush=True)
            rows.append(row)
        return rows

    def _encoded(self, vlm: Any, path: str, kinds: Sequence[tuple[str, int]], most: int, seconds: float) -> float:
        """Hours of video an hour that decoders and the encoder manage together, once they are at it."""
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager:
            out = manager.Queue(2 * most)
            decoders = [(kind, process) for kind, n in kinds for process in self._some(kind, n)]
            begin = time.monotonic() + 2.0
            until = begin + seconds
            for kind, process in decoders:
                process.ask("into", path, kind, out, until)
            n = 0
            while time.monotonic() < until:
                images = _taken(out, most, until)
                if images:
                    vlm.encode_images(np.stack(images))
                    n += len(images) if time.monotonic() >= begin else 0
            for _, process in decoders:
                process.answer()
        return n * TILING.per_image / seconds

    def damage(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for path in (p for p in self._clips if "1080" in p.name):
            damaged = self._work / f"damaged_{path.name}"
            data = bytearray(path.read_bytes())
            for at in range(len(data) // 2, len(data) // 2 + 20_000, 997):  # in the middle of a picture or several
                data[at] ^= 0x55
            damaged.write_bytes(data)
            with _said_of(rows, path):
                (on_cpu,), (on_gpu,) = self._each("outcome", str(damaged), [(CPU, 1), (CUDA, 1)])
                rows.append({"clip": path.name, CPU: on_cpu, CUDA: on_gpu})
        return rows

    def limits(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for path in (p for p in self._clips if p.stem.startswith(("h264", "hevc10", "av1_2160"))):
            process = Process()
            with closing(process), _said_of(rows, path):
                process.ask("limited", self._looped(path), CUDA, DECODE_MEMORY)
                rows.append({"clip": path.name, **process.answer()})
        return rows

    def _some(self, kind: str, n: int) -> list[Process]:
        """Processes that are ready to decode."""
        have = self._processes[kind]
        have[:] = [process for process in have if process.is_alive]
        new = [Process() for _ in range(n - len(have))]
        for process in new:
            process.ask("ready", kind)
        have += new
        for process in new:
            process.answer()
        return have[:n]

    def _each(self, task: str, path: str, kinds: Sequence[tuple[str, int]], *args: Any) -> list[list[Any]]:
        """What each of so many processes of each kind answers."""
        some = [(kind, self._some(kind, n)) for kind, n in kinds]
        at = time.monotonic() + _START_S
        for kind, processes in some:
            for process in processes:
                process.ask(task, path, kind, *([at, *args] if args else []))
        if args and kinds == [(CUDA, 8)]:
            time.sleep(_START_S)
            self._gpu_mib = _gpu_mib()
        answers: list[list[Any]] = []
        failed: Exception | None = None
        for _, processes in some:
            answers.append([])
            for process in processes:
                try:
                    answers[-1].append(process.answer())
                except Exception as error:
                    failed = failed or error
        if failed is not None:
            raise failed
        return answers

    def _looped(self, path: Path) -> str:
        """The clip over and over, for a minute."""
        if path not in self._long:
            long = self._work / f"long_{path.name}"
            loop(path, long, _LENGTH_S)
            self._long[path] = str(long)
        return self._long[path]


def loop(path: Path, out: Path, seconds: float) -> None:
    """A clip's packets over and over."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream: Any = target.add_stream_from_template(source.streams.video[0], opaque=True)
        packets = [packet for packet in source.demux(video=0) if packet.size]
        time_base = packets[0].time_base
        assert time_base is not None
        length = round(len(packets) / Fraction(source.streams.video[0].average_rate or 30) / time_base)
        for turn in range(max(1, round(seconds / float(length * time_base)))):
            for packet in packets:
                again = Packet(bytes(packet))
                again.pts, again.dts = (packet.pts or 0) + turn * length, (packet.dts or 0) + turn * length
                again.time_base, again.duration, again.is_keyframe = time_base, packet.duration, packet.is_keyframe
                again.stream = stream
                target.mux(again)


def _taken(out: Any, most: int, until: float) -> list[np.ndarray]:
    """What is there, up to a batch; nothing when the time is over."""
    images: list[np.ndarray] = []
    while len(images) < most:
        try:
            images.append(out.get(timeout=max(0.0, until - time.monotonic())) if not images else out.get_nowait())
        except queue.Empty:
            break
    return images


@contextmanager
def _said_of(rows: list[dict[str, Any]], path: Path) -> Iterator[None]:
    """A clip that fails is a row that says so."""
    try:
        yield
    except Exception as error:
        rows.append({"clip": path.name, "failed": _last_line(error)})


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:120]


def _gpu_mib() -> int | None:
    said = _said(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"])
    return int(said.split()[0]) if said and said.split()[0].isdigit() else None


def _said(command: Sequence[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _print(found: Any) -> None:
    if isinstance(found, dict):
        for name, value in found.items():
            print(f"{name}: {value}")
        return
    names = list(dict.fromkeys(name for row in found for name in row))
    for line in (names, ["---"] * len(names), *([str(row.get(name, "")) for name in names] for row in found)):
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
