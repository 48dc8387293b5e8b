"""Measures the encoder alone: how near it comes to its model's bare forward pass, and that to what the device can do.

python benchmarks/encoder.py [--part encode --part variants ...] [--model ViT-L-14 ...] [--json build/encoder.json]

Needs torch, open_clip and NumPy: no Ray, no Lance, no videos. Models get random weights (qasir-tiny its own): speed
does not depend on what they are. On a GPU, seconds are the clock's, on a CPU those of the CPU, of one thread unless
--threads says otherwise. What is compared is measured in turns; the tables are printed at the end. Nothing new is begun
once --budget-s are spent, and the tables say what was left out.
"""

import argparse
import copy
import itertools
import json
import logging
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from encoder_variants import COMPILED, Forward, Synchronous, as_cast, dtype_of, forwards
from numpy.typing import NDArray
from torch import Tensor, nn

from qasir.vlm.build import build
from qasir.vlm.flops import architecture_gflops
from qasir.vlm.image_tower import ImageTower
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.sizes import model_sizes
from qasir.vlm.weights import VlmSource, resolve

PACKAGED = "qasir-tiny"
GRID = 3
ROUNDS = 3
HOST_BATCHES = 4
"""Different batches in this process's memory that a stream takes in turn."""
AT_ONCE = 2
"""Threads that share a tower, as the two calls at once of an encoder on Ray do."""
_DEAR_GFLOPS = 200.0
CHECKED = 8
"""Batches whose results must not depend on what else is under way."""

Pixels = NDArray[np.uint8]
Call = Callable[[int], object]
"""Does so many batches and returns when all are done."""
Row = dict[str, Any]


@dataclass
class Bench:
    """What is measured on, for how long, and what came of it."""

    device: torch.device
    seconds: float
    until: float
    json: Path | None
    facts: Row = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until

    def now(self) -> float:
        """Seconds of the clock once a GPU has nothing left to do, or of this process's CPU."""
        if not self.on_gpu:
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def add(self, table: str, row: Row) -> None:
        self.tables.setdefault(table, []).append(row)
        print(f"{table}: " + ", ".join(f"{name} {_said(value)}" for name, value in row.items()), flush=True)
        if self.json is not None:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            kept = {"facts": self.facts, "tables": self.tables, "failures": self.failures}
            self.json.write_text(json.dumps(kept, indent=2) + "\n")

    def tried(self, what: str, call: Callable[[], Any]) -> Any:
        """What a call gives; None, and a line among the failures, where it fails or no time is left."""
        if self.is_over:
            self.failures.append(f"{what}: no time left")
            return None
        try:
            return call()
        except Exception as error:
            traceback.print_exc()
            self.failures.append(f"{what}: {type(error).__name__}: {str(error).strip().splitlines()[:1]}")
            return None

    def rates(self, calls: dict[str, Call], images: int, rounds: int = ROUNDS) -> dict[str, list[float]]:
        """Images a second of each, once a round, in turns. images: in a batch."""
        counts = {}
        for name, call in calls.items():
            call(2)
            since = self.now()
            call(2)
            counts[name] = max(2, int(self.seconds / rounds / max(1e-6, (self.now() - since) / 2)))
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                since = self.now()
                call(counts[name])
                rates[name].append(counts[name] * images / (self.now() - since))
        return rates


def middle(values: Sequence[float]) -> float:
    return float(np.median(values))


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """Of what was measured in turns: the middle one of the rounds' ratios."""
    return middle([one / other for one, other in zip(values, base, strict=True)])


# Models and pixels


def source_of(name: str) -> VlmSource:
    return resolve(name) if name == PACKAGED else VlmSource(name, "")


@cache
def origin(name: str, device: torch.device) -> nn.Module:
    """A model's image tower in float32 on the device; with random weights, unless it is the packaged one."""
    if name == PACKAGED:
        return build(source_of(name), None).visual.to(device).eval()
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # that weights are random is what is wanted
    try:
        with torch.device(device):
            return open_clip.create_model(name, load_weights=False, device=device).visual.eval()
    finally:
        logging.disable(logging.NOTSET)


def tower_of(name: str, precision: str, bench: Bench) -> ImageTower:
    tower = as_cast(origin(name, bench.device), "kept", precision)
    return ImageTower(tower, source_of(name), precision=precision, device=bench.device)


@cache
def gflops(name: str) -> float:
    """Of encoding one picture."""
    return architecture_gflops(source_of(name), model_sizes(source_of(name)).image_size)


def pictures(n: int, side: int, seed: int = 0) -> Pixels:
    """Smooth colours with some noise: what a tower is made for, unlike noise alone."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, 3, 9, 9), np.float32) * 255)
    smooth = F.interpolate(coarse, (side, side), mode="bilinear").permute(0, 2, 3, 1).numpy()
    noise = rng.integers(0, 24, (side, side, 3))
    return np.ascontiguousarray((smooth * 0.9 + noise).clip(0, 255).astype(np.uint8))


def host_batches(batch: int, side: int) -> list[Pixels]:
    first = pictures(batch, side)
    return [np.ascontiguousarray(np.roll(first, 7 * k, axis=1)) for k in range(HOST_BATCHES)]


def resident(tower: ImageTower, batch: int) -> Tensor:
    """What the tower takes, on its device: as it is laid out there when pixels come from the host."""
    images = torch.randn(batch, tower.image_size, tower.image_size, 3, device=tower.device).permute(0, 3, 1, 2)
    return images.to(tower.dtype)


# Ways to encode batches


def bare(tower: ImageTower, images: Tensor) -> Call:
    """The tower's forward pass over and over, on data that lies on the device; nothing is fetched."""

    def call(n: int) -> None:
        with torch.no_grad(), tower.computing():
            for _ in range(n):
                tower.module(images)

    return call


def one_by_one(encode: Callable[[Pixels], object], batches: Sequence[Pixels]) -> Call:
    def call(n: int) -> None:
        for pixels in islice(cycle(batches), n):
            encode(pixels)

    return call


def a_batch_later(tower: ImageTower, batches: Sequence[Pixels], grid: int | None) -> Call:
    def call(n: int) -> None:
        waiting = None
        for pixels in islice(cycle(batches), n):
            submitted = tower.submit(pixels, grid=grid)
            if waiting is not None:
                waiting()
            waiting = submitted
        if waiting is not None:
            waiting()

    return call


def threaded(tower: ImageTower, batches: Sequence[Pixels], grid: int | None) -> Call:
    threads = ThreadPoolExecutor(AT_ONCE)
    return lambda n: list(threads.map(lambda pixels: tower.encode_images(pixels, grid=grid), islice(cycle(batches), n)))


# The parts


def products(bench: Bench, chosen: argparse.Namespace) -> None:
    """What matrix products the device computes: square ones, and those of ViT-L/14's widest layer."""
    shapes = {"square": (4096, 4096, 4096), "ViT-L-14's": (64 * 257, 1024, 4096)}
    if bench.on_gpu:
        shapes["large square"] = (8192, 8192, 8192)
    for precision in ("bf16", "fp16", "fp32", *(["TF32"] if bench.on_gpu else [])):
        if precision == "fp16" and not bench.on_gpu:
            continue
        best = 0.0
        for m, k, n in shapes.values():
            left, right = (
                torch.randn(*shape, device=bench.device).to(dtype_of(precision)) for shape in ((m, k), (k, n))
            )
            torch.backends.cuda.matmul.allow_tf32 = precision == "TF32"
            rates = bench.rates({"": _repeated(partial(torch.matmul, left, right))}, 1)[""]
            torch.backends.cuda.matmul.allow_tf32 = False
            best = max(best, max(rates) * 2 * m * k * n / 1e12)
        bench.facts[f"{precision} TFLOP/s"] = round(best, 2)
        bench.add("Matrix products", {"precision": precision, "TFLOP/s": best})


def _repeated(once: Callable[[], object]) -> Call:
    def call(n: int) -> None:
        for _ in range(n):
            once()

    return call


def encode(bench: Bench, chosen: argparse.Namespace) -> None:
    """The library's ways against the same tower's bare forward pass.

    All batches in the first precision; in the others the middle one, of models that are not too dear.
    """
    first, *others = chosen.precision
    for name in chosen.model:
        _encode_all(bench, name, first, chosen.batch)
    for name, precision in itertools.product(chosen.model, others):
        if gflops(name) < _DEAR_GFLOPS:
            _encode_all(bench, name, precision, chosen.batch[len(chosen.batch) // 2 :][:1])


def _encode_all(bench: Bench, name: str, precision: str, batches: Sequence[int]) -> None:
    tower = bench.tried(f"{name} {precision}", partial(tower_of, name, precision, bench))
    if tower is not None:
        for batch in batches:
            bench.tried(f"encode {name} {precision} {batch}", partial(_encode, bench, name, tower, batch))


def _encode(bench: Bench, name: str, tower: ImageTower, batch: int) -> None:
    batches = host_batches(batch, tower.image_size)
    held = torch.cuda.memory_allocated() if bench.on_gpu else 0
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    calls: dict[str, Call] = {
        "bare": bare(tower, resident(tower, batch)),
        "waiting": one_by_one(tower.encode_images, batches),
        "a batch later": a_batch_later(tower, batches, None),
    }
    if bench.on_gpu:
        calls["two threads"] = threaded(tower, batches, None)
    if tower.gives_cells:
        calls["with cells"] = a_batch_later(tower, batches, GRID)
    rates = bench.rates(calls, batch)
    achieved = middle(rates["bare"]) * gflops(name) / 1e3
    most = bench.facts.get(f"{tower.precision} TFLOP/s")
    row: Row = {"model": name, "precision": tower.precision, "batch": batch, "bare images/s": middle(rates["bare"])}
    row |= {f"{way} / bare": ratio(rates[way], rates["bare"]) for way in calls if way != "bare"}
    row |= {"bare TFLOP/s": achieved, "of products": achieved / most if most else None}
    if bench.on_gpu:
        row["MiB beside weights"] = (torch.cuda.max_memory_allocated() - held) / 2**20
    bench.add("Encoding against the bare forward pass", row)


def costs(bench: Bench, chosen: argparse.Namespace) -> None:
    """What each thing that was removed gave: from encoding as it was, one change after another."""
    batch = chosen.batch[-1] if not bench.on_gpu else 64
    for name in chosen.model:
        for precision in chosen.precision[: 1 if bench.on_gpu else None]:
            bench.tried(f"costs {name} {precision}", partial(_costs, bench, name, precision, batch))


def _costs(bench: Bench, name: str, precision: str, batch: int) -> None:
    tower = tower_of(name, precision, bench)
    grid = GRID if tower.gives_cells else None
    batches = host_batches(batch, tower.image_size)

    def synchronous(weights: str, *, one_pass: bool = False) -> Call:
        cast = as_cast(origin(name, bench.device), weights, precision)
        encode = Synchronous(cast, weights, precision, bench.device, one_pass)
        return one_by_one(lambda pixels: encode(pixels, grid), batches)

    calls = {"as it was": synchronous("kept")}
    if precision != "fp32":
        calls["weights cast once"] = synchronous("products")
    if precision != "fp32" and bench.on_gpu:
        calls["no autocast"] = synchronous("whole")
        calls["pixels in one pass"] = synchronous("whole", one_pass=True)
    calls["now, waiting"] = one_by_one(lambda pixels: tower.encode_images(pixels, grid=grid), batches)
    calls["now, a batch later"] = a_batch_later(tower, batches, grid)
    rates = bench.rates(calls, batch)
    row: Row = {"model": name, "precision": precision, "batch": batch, "as it was images/s": middle(rates["as it was"])}
    row |= {way: ratio(rates[way], rates["as it was"]) for way in calls if way != "as it was"}
    bench.add(f"What each change gave, {'with' if grid else 'without'} cells, over encoding as it was", row)


def variants(bench: Bench, chosen: argparse.Namespace) -> None:
    """Other ways to compute the tower, on resident data: speed, time to the first result, and how near results stay."""
    _variants(bench, chosen, compiled=False)


def compiled(bench: Bench, chosen: argparse.Namespace) -> None:
    """The same, of those that compile."""
    _variants(bench, chosen, compiled=True)


def _variants(bench: Bench, chosen: argparse.Namespace, *, compiled: bool) -> None:
    batch, precision = 64 if bench.on_gpu else chosen.batch[-1], chosen.precision[0]
    names = [name for name in chosen.model if gflops(name) < _DEAR_GFLOPS]
    for name in reversed(names) if compiled else names:
        for way, make in forwards(origin(name, bench.device), precision, bench.device).items():
            if way.startswith(COMPILED) == compiled:
                torch.compiler.reset()
                bench.tried(f"{name} {precision} {way}", partial(_variant, bench, name, precision, way, make, batch))


def _variant(bench: Bench, name: str, precision: str, way: str, make: Callable[[], Forward], batch: int) -> None:
    tower = tower_of(name, precision, bench)
    exact, today = _judges(name, precision, bench.device, batch)
    images = _judged_on(name, bench.device, batch)
    forward = make()
    given = images if way.startswith("autocast") else images.to(dtype_of(precision))
    since = time.perf_counter()
    result = F.normalize(forward(given).float(), dim=-1).clone()
    bench.now()
    first_s = time.perf_counter() - since
    rates = bench.rates({"bare": bare(tower, images.to(tower.dtype)), way: _repeated(lambda: forward(given))}, batch)
    bench.add(
        "Other ways to compute the tower",
        {
            "model": name, "precision": precision, "batch": batch, "way": way, "images/s": middle(rates[way]),
            "over the library's": ratio(rates[way], rates["bare"]), "first result s": first_s,
            "cosine to fp32": float((result * exact).sum(-1).min()),
            "to autocast": float((result * today).sum(-1).min()),
        },
    )  # fmt: skip


@cache
def _judged_on(name: str, device: torch.device, batch: int) -> Tensor:
    """(B, 3, S, S) float32, normalised, of pictures."""
    tower: Any = origin(name, device)
    mean, std = (torch.tensor(tower.preprocess_cfg[key], device=device) for key in ("mean", "std"))
    pixels = torch.from_numpy(pictures(batch, tower.image_size[0])).to(device)
    return ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2)


@cache
def _judges(name: str, precision: str, device: torch.device, batch: int) -> tuple[Tensor, Tensor]:
    """Embeddings in float32, and those under autocast with weights kept, as they were computed before."""
    tower, images = origin(name, device), _judged_on(name, device, batch)
    found = []
    for low in (False, precision != "fp32"):
        with torch.no_grad(), torch.autocast(device.type, dtype_of(precision), enabled=low):
            found.append(F.normalize(tower(images).float(), dim=-1))
    return found[0], found[1]


def check(bench: Bench, chosen: argparse.Namespace) -> None:
    """Whether results depend on what else is under way, and how near embeddings and cells stay to those before."""
    for name in chosen.model:
        for precision in chosen.precision:
            bench.tried(f"check {name} {precision}", partial(_check, bench, name, precision))


def _check(bench: Bench, name: str, precision: str) -> None:
    tower = tower_of(name, precision, bench)
    grid = GRID if tower.gives_cells else None
    small = 8 if bench.on_gpu else 1
    batches = [pictures(small, tower.image_size, seed) for seed in range(CHECKED)]
    alone = [tower.encode_images(pixels, grid=grid) for pixels in batches]
    later = list(_later(tower, batches, grid))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        together = list(threads.map(lambda pixels: tower.encode_images(pixels, grid=grid), batches))
    before = Synchronous(origin(name, bench.device), "kept", precision, bench.device)
    exact = Synchronous(origin(name, bench.device), "kept", "fp32", bench.device)
    row: Row = {"model": name, "precision": precision}
    row["a batch later, largest difference"] = max(_apart(*pair) for pair in zip(alone, later, strict=True))
    row["two threads, largest difference"] = max(_apart(*pair) for pair in zip(alone, together, strict=True))
    for what, judge in (("as it was", before), ("fp32", exact)):
        judged = [judge(pixels, grid) for pixels in batches]
        cosines = [(a * b).sum(-1) for ours, theirs in zip(alone, judged, strict=True) for a, b in _pairs(ours, theirs)]
        row[f"cosine to {what}, mean"] = float(np.mean(np.concatenate([each.ravel() for each in cosines])))
        row[f"to {what}, least"] = min(float(each.min()) for each in cosines)
    bench.add("Results", row)


def _later(tower: ImageTower, batches: Sequence[Pixels], grid: int | None) -> Iterator[Any]:
    waiting = [tower.submit(pixels, grid=grid) for pixels in batches]
    yield from (each() for each in waiting)


def _pairs(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(a, b) for a, b in zip(one, other, strict=False) if a is not None]


def _apart(one: Sequence[Any], other: Sequence[Any]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in _pairs(one, other))


def pieces(bench: Bench, chosen: argparse.Namespace) -> None:
    """Milliseconds a batch of what surrounds the blocks: copies, normalising, patch embedding, layer norm."""
    batch, side, dtype = chosen.batch[-1], 224, dtype_of(chosen.precision[0])
    host = torch.from_numpy(pictures(batch, side))
    there = host.to(bench.device)
    images = there.permute(0, 3, 1, 2)
    scale, shift = (torch.rand(1, 3, 1, 1, device=bench.device) for _ in range(2))
    rows, row_scale, row_shift = there.flatten(2), *(each.flatten().repeat(side) for each in (scale, shift))
    out = torch.empty_like(rows, dtype=dtype)
    patch, width = 14, 1024
    last, first = images.to(dtype), images.contiguous().to(dtype)
    conv: Any = nn.Conv2d(3, width, patch, patch, bias=False).to(bench.device, dtype)
    conv_last = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    matrix = conv.weight.permute(2, 3, 1, 0).reshape(-1, width).contiguous()
    n = side // patch

    def as_product() -> Tensor:
        rows = last.permute(0, 2, 3, 1).reshape(batch, n, patch, n, patch, 3).transpose(2, 3)
        return rows.reshape(batch, n * n, -1) @ matrix

    tokens = torch.randn(batch, n * n + 1, width, device=bench.device, dtype=dtype)
    norm = nn.LayerNorm(width).to(bench.device)
    low = nn.LayerNorm(width).to(bench.device, dtype)
    ways: dict[str, Callable[[], object]] = {
        "normalise by channels, as it was": lambda: images.float() * scale + shift,
        "normalise by rows, in place": lambda: rows.float().mul_(row_scale).add_(row_shift),
        "normalise by rows, one pass": lambda: torch.addcmul(row_shift, rows, row_scale, out=out),
        "patches, channels last pixels": lambda: conv(last),
        "patches, channels first pixels": lambda: conv(first),
        "patches, all channels last": lambda: conv_last(last),
        "patches as a matrix product": as_product,
        "layer norm to float32 and back": lambda: norm(tokens.float()).to(dtype),
        "layer norm in the tower's precision": lambda: low(tokens),
    }
    if bench.on_gpu:
        pinned = host.pin_memory()
        kept = torch.empty_like(pinned)
        ways["copy in, pageable"] = lambda: host.to(bench.device)
        ways["copy in, pinned"] = lambda: pinned.to(bench.device, non_blocking=True)
        ways["into pinned memory"] = lambda: kept.copy_(host)
    for what, once in ways.items():
        with torch.no_grad():
            rates = bench.tried(what, partial(bench.rates, {"": _repeated(once)}, 1))
        if rates:
            row = {"piece": what, "precision": chosen.precision[0], "batch": batch, "ms": 1e3 / middle(rates[""])}
            bench.add("Pieces of ViT-L/14 at 224 px", row)


def profile(bench: Bench, chosen: argparse.Namespace) -> None:
    """The dearest kernels of encoding batches with cells."""
    name, batch = chosen.model[-1] if "ViT-L-14" not in chosen.model else "ViT-L-14", 64 if bench.on_gpu else 4
    tower = tower_of(name, chosen.precision[0], bench)
    call = a_batch_later(tower, host_batches(batch, tower.image_size), GRID if tower.gives_cells else None)
    call(3)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if bench.on_gpu:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as taken:
        call(5)
        bench.now()
    of = "self_device_time_total" if bench.on_gpu else "self_cpu_time_total"
    events = sorted(taken.key_averages(), key=lambda event: -getattr(event, of))
    total = sum(getattr(event, of) for event in events)
    for event in events[:16]:
        took = getattr(event, of)
        row = {"kernel": event.key[:70], "calls": event.count, "ms a batch": took / 5e3, "share": took / total}
        bench.add(f"Where {name} spends its time, {chosen.precision[0]}, batch {batch}", row)


PARTS: dict[str, Callable[[Bench, argparse.Namespace], None]] = {
    part.__name__: part for part in (products, check, encode, costs, variants, pieces, profile, compiled)
}


def main(arguments: Sequence[str] | None = None) -> None:
    gpu = torch.cuda.is_available()
    chosen = _chosen(arguments, gpu)
    if chosen.device == "cpu":
        torch.set_num_threads(chosen.threads)
    began = time.monotonic()
    bench = Bench(torch.device(chosen.device), chosen.seconds, began + chosen.budget_s, chosen.json)
    bench.facts |= {
        "device": torch.cuda.get_device_name() if bench.on_gpu else platform.processor() or platform.machine(),
        "torch": torch.__version__, "open_clip": open_clip.__version__, "python": platform.python_version(),
        "threads": torch.get_num_threads(), "seconds are": "the clock's" if bench.on_gpu else "the CPU's",
    }  # fmt: skip
    for part in chosen.part:
        bench.tried(part, partial(PARTS[part], bench, chosen))
    bench.facts["took s"] = round(time.monotonic() - began, 1)
    _print(bench)


def _chosen(arguments: Sequence[str] | None, gpu: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="All of them, unless on a CPU.")
    parser.add_argument("--model", action="append")
    parser.add_argument("--precision", action="append", choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="On a CPU.")
    parser.add_argument("--seconds", type=float, default=0.4 if gpu else 3.0, help="For each thing that is timed.")
    parser.add_argument("--budget-s", type=float, default=150.0 if gpu else 1800.0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    on_gpu = chosen.device != "cpu"
    chosen.part = chosen.part or (list(PARTS) if on_gpu else ["products", "check", "encode", "costs"])
    chosen.model = chosen.model or [PACKAGED, "ViT-B-32", *(["ViT-L-14", "ViT-L-14-336"] if on_gpu else [])]
    chosen.precision = chosen.precision or ["bf16", *(["fp16"] if on_gpu else []), "fp32"]
    chosen.batch = chosen.batch or ([16, 64, 256] if on_gpu else [16])
    return chosen


def _print(bench: Bench) -> None:
    print("\n" + ", ".join(f"{name} {value}" for name, value in bench.facts.items()))
    for title, rows in bench.tables.items():
        names = list(dict.fromkeys(name for row in rows for name in row))
        print(f"\n### {title}\n\n| {' | '.join(names)} |\n|{' --- |' * len(names)}")
        for row in rows:
            print(f"| {' | '.join(_said(row.get(name)) for name in names)} |")
    if bench.failures:
        print("\n" + "\n".join(bench.failures))
    sys.stdout.flush()


def _said(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.5f}" if 0.99 < value < 1 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


if __name__ == "__main__":
    main()
