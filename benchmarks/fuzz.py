"""Encodes damaged files of all containers and codecs at hand, as any corpus is encoded, and says what became of them.

    make fuzz                      2,000 files, the summary to docs/fuzz.md
    python benchmarks/fuzz.py --files 100 --seed 7 --keep build/fuzz

Exits 1 when a promise is broken: a failure of no listed kind, a video lost or one that no time limit ended, more memory
than stated, or another file read. The same seed makes the same files; --keep leaves them, and the whole ones.
"""

import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from fuzz_files import Whole, damaged, whole_videos
from numpy.typing import NDArray

from qasir.encoding.memory import DECODE_MEMORY
from qasir.encoding.options import EncodeOptions
from qasir.encoding.plain_loop import PlainLoop
from qasir.encoding.run import RunProgress, run_encoding
from qasir.errors import ERROR_KINDS
from qasir.index.index import Index
from qasir.index.schemas import ENCODED
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import list_videos

TIME_LIMIT_S = 20.0
MEMORY_BOUND = DECODE_MEMORY + (256 << 20)
"""Bytes that a decoding process may hold: what the limit allows a video, and the process itself."""
SPEC = EncoderSpec(
    model="mean colours", pretrained="", weights="", grid=3, image_size=96, fps=1.0, embedding_dim=12,
    precision="fp32", cells=False, thumbnails=False,
)  # fmt: skip
LISTS = ("ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n")
"""What names another file, among the damaged ones."""

_TEXT = """# Damaged files

`make fuzz` (seed {seed}) made {n:,} files out of small videos of every container and codec that PyAV's FFmpeg writes,
damaged each in one to three ways (bits flipped; cut; parts dropped, repeated or overwritten; numbers and sizes in
headers changed; two files spliced) and encoded them as any corpus is encoded.

- Each is a row: {n_encoded:,} encoded, {n_failed:,} failed with a kind that [operations.md](operations.md) lists.
- The largest decoding process held {mib:,} MiB; the bound is {bound:,} MiB.
- It took {seconds:,.0f} s with one decoding process; {n_hung} files were given up after {limit:.0f} s without progress.
- No other file was read, though two of these name one.
- The longest that damage made one has {most:,} super images ({name}).

"""


class MeanColours:
    """An image model of no weights: the mean colours of an image's quarters."""

    def encode_images(
        self, pixels: NDArray[np.uint8], *, grid: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        n, side = len(pixels), pixels.shape[1] // 2
        quarters = pixels.reshape(n, 2, side, 2, side, 3).astype(np.float32).mean(axis=(2, 4)).reshape(n, -1) + 1.0
        return quarters / np.linalg.norm(quarters, axis=1, keepdims=True), None


@dataclass(frozen=True)
class Outcome:
    """What a damaged file was made of and what became of it: a kind of failure, or "encoded"."""

    name: str
    container: str
    codec: str
    kind: str
    n_super_images: int


def main(
    files: Annotated[int, typer.Option(help="How many damaged files.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of what is damaged and how.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Where the summary goes; None prints it.")] = None,
    keep: Annotated[Path | None, typer.Option(help="A folder for the files.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        work = keep or Path(temporary)
        names, canary = make_files(work, files, seed)
        since = time.monotonic()
        with peak_memory() as peak:
            rows = encode(work)
        text, broken = summary(outcomes(rows, names), peak[0], time.monotonic() - since, seed)
        if canary.stat().st_atime > 0:
            broken.append(f"another file was read: {canary}")
        canary.read_bytes()
        if canary.stat().st_atime == 0:
            broken.append(
                f"nobody can tell what is read under {work}, which keeps no access times: give another --keep"
            )
    if output is None:
        print(text)
    else:
        output.write_text(text)
    if broken:
        sys.exit("\n".join(broken))


def make_files(work: Path, n_files: int, seed: int) -> tuple[dict[str, tuple[str, str]], Path]:
    """Write the damaged files into work/damaged: ({name: (container, codec)}, a video that none of them may have
    opened)."""
    rng = random.Random(seed)
    wholes: list[Whole] = []
    for whole in whole_videos(work / "whole", rng):
        wholes.append(whole)
        if len(wholes) == n_files:
            break
    folder, canary = work / "damaged", work / "canary.mp4"
    folder.mkdir()
    canary.write_bytes(next(whole for whole in wholes if whole.suffix in ("mp4", "mkv", "avi", "mov", "wmv")).data)
    names = {}
    for number in range(n_files):
        whole = wholes[number % len(wholes)]
        name = f"{number:05}_{whole.codec}"
        (folder / f"{name}.{whole.suffix}").write_bytes(damaged(whole.data, rng.choice(wholes).data, rng))
        names[name] = (whole.suffix, whole.codec)
    for number, text in enumerate(LISTS):
        (folder / f"list_{number}.mp4").write_text(text.format(canary))
        names[f"list_{number}"] = ("list of files", "none")
    os.utime(canary, (0, canary.stat().st_mtime))
    return names, canary


def encode(work: Path) -> list[dict[str, Any]]:
    """Rows of `videos`, after a run like any other."""
    corpus = list_videos(f"{work}/damaged/*")
    index = Index.open_or_new(str(work / "index"), SPEC, corpus.root, corpus.source)
    options = EncodeOptions(decode_timeout_s=TIME_LIMIT_S)
    stages = PlainLoop([index], lambda: [MeanColours()], options)
    run_encoding(corpus, [index], stages, options, on_progress=_tell)
    rows: list[dict[str, Any]] = index.table("videos").to_table().to_pylist()
    return rows


def _tell(progress: RunProgress) -> None:
    print(f"\r{progress.done} of {progress.planned}", end="", file=sys.stderr, flush=True)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """[the largest resident size that any child of this process reaches, in bytes]."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for pid in _children():
                peak[0] = max(peak[0], _most_resident(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _children() -> list[str]:
    children = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended
            children += (task / "children").read_text().split()
    return children


def _most_resident(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)


def outcomes(rows: list[dict[str, Any]], names: dict[str, tuple[str, str]]) -> list[Outcome]:
    found = {row["video_id"]: row for row in rows}
    results = []
    for name, (container, codec) in names.items():
        row = found.get(name)
        kind = "lost" if row is None else ENCODED if row["status"] == ENCODED else str(row["error_kind"])
        results.append(Outcome(name, container, codec, kind, (row or {}).get("n_super_images") or 0))
    return results


def summary(results: list[Outcome], peak: int, seconds: float, seed: int) -> tuple[str, list[str]]:
    """(Markdown, the promises that were broken)."""
    broken = [f"{one.name}: {one.kind}" for one in results if one.kind not in (ENCODED, *ERROR_KINDS)]
    broken += [
        f"{one.name}: a list of files was opened" for one in results if one.codec == "none" and one.kind == ENCODED
    ]
    if peak > MEMORY_BOUND:
        broken.append(f"{peak >> 20:,} MiB of memory, and {MEMORY_BOUND >> 20:,} are the bound")
    kinds = [kind for kind, _ in Counter(one.kind for one in results).most_common()]
    longest = max(results, key=lambda one: one.n_super_images)
    n_encoded = sum(one.kind == ENCODED for one in results)
    text = _TEXT.format(
        seed=seed, n=len(results), n_encoded=n_encoded, n_failed=len(results) - n_encoded, mib=peak >> 20,
        bound=MEMORY_BOUND >> 20, seconds=seconds, limit=TIME_LIMIT_S,
        n_hung=sum(one.kind == "timed_out" for one in results), most=longest.n_super_images, name=longest.name,
    )  # fmt: skip
    tables = [_table("container", [one.container for one in results], results, kinds)]
    tables.append(_table("codec", [one.codec for one in results], results, kinds))
    return text + "\n".join(tables), broken


def _table(head: str, keys: list[str], results: list[Outcome], kinds: list[str]) -> str:
    counts = Counter((key, one.kind) for key, one in zip(keys, results, strict=True))
    rows = [(key, [counts[key, kind] for kind in kinds]) for key in sorted(set(keys))]
    rows.append(("all", [sum(numbers) for numbers in zip(*(numbers for _, numbers in rows), strict=True)]))
    lines = [f"| {head} | files | {' | '.join(kinds)} |", f"| --- |{' ---: |' * (len(kinds) + 1)}"]
    lines += [f"| {key} | {sum(numbers)} | {' | '.join(str(n or '') for n in numbers)} |" for key, numbers in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
