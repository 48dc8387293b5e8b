"""Measures importing features at TVR's size: made-up ones of 21,800 videos of 128 frames, 768 numbers a frame in
float16, in one HDF5 file of 4.3 GB, go into an index.

    python benchmarks/import_features.py [--videos 21800] [--on here --on ray]

The file is made once and kept in --work. Each way of importing (here: in one process; ray: on a local Ray, which the
job uses on a cluster only) starts from nothing in a process of its own, in turn. Printed are rows a second by the clock
and by the CPU, all processes of the run counted, the most memory that any one of them took, and the index's size; and,
for scale, what it costs just to read the file and to write as many bytes.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

N_FRAMES, DIM, FPS = 128, 768, 3.0
WAYS = ("copy", "here", "ray")
_CHUNK = 16 << 20


def main(
    videos: Annotated[int, typer.Option(help="How many; 21,800 is TVR's size.")] = 21_800,
    on: Annotated[list[str] | None, typer.Option(help=f"Which of {', '.join(WAYS)}.", show_default="all")] = None,
    work: Annotated[Path, typer.Option(help="Folder for the file, kept, and the indexes, removed.")] = Path(
        "build/import_benchmark"
    ),
    child: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    path = work / f"features_{videos}.h5"
    if child:
        assert on is not None
        print(json.dumps(measured(on[0], path, work / "index")))
        return
    if not path.exists():
        since = time.perf_counter()
        make(path, videos)
        print(f"{path}: {videos:,} videos of {N_FRAMES} x {DIM} made in {time.perf_counter() - since:.0f} s")
    for way in on or WAYS:
        args = (__file__, "--videos", str(videos), "--on", way, "--work", str(work), "--child")
        done = subprocess.run([sys.executable, *args], check=True, capture_output=True, text=True)
        facts = json.loads(done.stdout.splitlines()[-1])
        rows = videos * N_FRAMES
        print(
            f"{way}: {facts['seconds']:.0f} s, {facts['cpu_seconds']:.0f} s of CPU; {rows / facts['seconds']:,.0f} "
            f"rows a second, {rows / facts['cpu_seconds']:,.0f} a second of CPU; at most {facts['memory'] / 1e6:,.0f} "
            f"MB in a process; {facts['bytes'] / 1e9:.2f} GB written",
            flush=True,
        )


def make(path: Path, n_videos: int) -> None:
    """Rows of length 1, each video's its own: stretches of one matrix of random ones, at another place for each."""
    import h5py

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1 << 15, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    half = rows.astype(np.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    half_made = path.with_suffix(".part")
    with h5py.File(half_made, "w") as file:
        for i in range(n_videos):
            first = int(rng.integers(len(half) - N_FRAMES))
            file.create_dataset(f"video_{i:06}", data=half[first : first + N_FRAMES])
    half_made.rename(path)


def measured(way: str, path: Path, index: Path) -> dict[str, float]:
    """seconds, cpu_seconds, memory (bytes) and bytes (of what was written)."""
    shutil.rmtree(index, ignore_errors=True)
    since, before = time.perf_counter(), cpu_seconds()
    written = copied(path, index) if way == "copy" else imported(way, path, index)
    facts = {"seconds": time.perf_counter() - since, "cpu_seconds": cpu_seconds() - before, "bytes": written}
    shutil.rmtree(index)
    return {**facts, "memory": max(peak_bytes(process) for process in processes())}


def copied(path: Path, folder: Path) -> int:
    """What the disk takes to read the file and to write it."""
    folder.mkdir()
    with open(path, "rb") as source, open(folder / "copy", "wb") as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
        os.fsync(target.fileno())
    return size_of(folder)


def imported(way: str, path: Path, uri: Path) -> int:
    from pipelines.import_features import RayFeatureStages
    from qasir.encoding.feature_corpus import FeatureCorpus
    from qasir.encoding.import_features import FeatureStages
    from qasir.encoding.import_options import ImportOptions
    from qasir.encoding.options import EncodeOptions
    from qasir.encoding.prepare_import import prepare_import
    from qasir.encoding.run import run_encoding

    features = FeatureCorpus(str(path), ImportOptions("made up", fps=FPS))
    index = prepare_import(features, str(uri))
    stages = RayFeatureStages(features, index) if way == "ray" else FeatureStages(features, index)
    (summary,) = run_encoding(features.corpus, [index], stages, EncodeOptions())
    assert (summary.failed, summary.super_images) == (0, summary.encoded * N_FRAMES), summary
    return size_of(uri)


def processes() -> list[int]:
    """This one and all that it started, Ray's too, by Linux's /proc."""
    parents = {int(pid): int(words[1]) for pid in filter(str.isdigit, os.listdir("/proc")) if (words := stat(pid))}
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def stat(pid: int | str) -> list[str]:
    """What /proc says of a process after its name; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds() -> float:
    """Of all of these, and of those of their children that ended."""
    ticks = [sum(map(int, words[11:15])) for pid in processes() if (words := stat(pid))]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 if "VmHWM:" in status else 0


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    typer.run(main)
