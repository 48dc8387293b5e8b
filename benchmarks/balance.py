"""Measures what numbers of decoders and encoders are worth, as ratios taken in one run on this machine's CPUs.

python benchmarks/balance.py [--part sizes --part storage --part bounds] [--work build/encode_benchmark]

sizes: the rate after start-up with other numbers, over that with those of `Workers.for_cluster`. storage: a run whose
decoders wait as long for each clip as --wait says, begun again with measured numbers, against one that is left as it
is, start-up and all. bounds: the CPU-seconds that other grids took, against what the run with N = 3 foretold.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from encode import CLIP_S, LONG_S, N_RENDERED, links, loaded, render, spec_of, warm_up

from pipelines import probe
from pipelines.cluster import connect, total_cpus
from pipelines.encode import RayStages
from pipelines.workers import Workers
from qasir.encoding.decode import Decoded, decode_segments
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions
from qasir.encoding.run import EncodeSummary, run_encoding
from qasir.index.index import Index
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import list_videos
from qasir.vlm.weights import VlmSource

PARTS = ("sizes", "storage", "bounds")
_NEVER = 1e12


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"Which of {', '.join(PARTS)}.", show_default="all")] = None,
    work: Annotated[Path, typer.Option()] = Path("build/encode_benchmark"),
    repeats: Annotated[int, typer.Option(help="Of sizes.")] = 3,
    wait: Annotated[float, typer.Option(help="Seconds that storage takes for a clip.")] = 0.5,
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    warm_up(work)
    if "sizes" in (part or PARTS):
        sizes(work, repeats)
    if "storage" in (part or PARTS):
        storage(work, wait)
    if "bounds" in (part or PARTS):
        bounds(work)


class Fixed(RayStages):
    """Stages with these numbers of workers, whatever they are seen to do."""

    def __init__(self, *args: Any, sizes: dict[str, int], **options: Any) -> None:
        super().__init__(*args, **options)
        self._sizes = sizes

    def _through(self, segments: Any, workers: Workers, reports: Any, probe: Any = None) -> Any:
        return super()._through(segments, replace(workers, **self._sizes, is_measured=True), reports)


def encoded(folder: Path, model: VlmSource, spec: EncoderSpec, stages: type[RayStages], **how: Any) -> EncodeSummary:
    corpus = list_videos(str(folder))
    with tempfile.TemporaryDirectory() as place:
        index = Index.open_or_new(f"{place}/index", spec, corpus.root)
        options = EncodeOptions()
        (summary,) = run_encoding(corpus, [index], stages([Target(index, model)], options, **how), options)
    assert summary.failed == 0
    return summary


def sizes(work: Path, repeats: int) -> None:
    connect()
    cpus = total_cpus()
    usual = Workers.for_cluster(cpus, 0, cpus)
    chosen = (usual.decoders, usual.encoders)
    tried = {chosen, (usual.decoders, 1), *((max(1, int(f * cpus)), usual.encoders) for f in (0.5, 1, 2, 4))}
    print("| model | N | decoders | encoders | rate over that of the usual |\n| --- | --- | --- | --- | --- |")
    for name, grid, each_s, n in (
        ("qasir-tiny", 1, LONG_S, 60),
        ("qasir-tiny", 3, LONG_S, 120),
        ("ViT-B-32", 1, CLIP_S, 24),
    ):
        model, vlm = loaded(name, work)
        folder = links(render(work / f"videos_{each_s:.0f}", N_RENDERED, each_s), n)
        rates: dict[tuple[int, int], list[float]] = {one: [] for one in sorted(tried)}
        for _ in range(repeats):
            for (decoders, encoders), seen in rates.items():
                summary = encoded(
                    folder, model, spec_of(model, vlm, grid), Fixed, sizes={"decoders": decoders, "encoders": encoders}
                )
                seen.append(summary.super_images / (summary.seconds - summary.throughput["startup_s"]))
        for (decoders, encoders), seen in rates.items():
            ratio = statistics.median(x / y for x, y in zip(seen, rates[chosen], strict=True))
            print(f"| {name} | {grid} | {decoders} | {encoders} | {ratio:.2f} |", flush=True)


def storage(work: Path, wait_s: float) -> None:
    model, vlm = loaded("qasir-tiny", work)
    folder = links(render(work / f"videos_{CLIP_S:.0f}", N_RENDERED, CLIP_S), 600)
    print("\n| sizes | decoders | seconds | start-up s |\n| --- | --- | --- | --- |")
    worth = probe._WORTH
    for name, most in (("as they are", _NEVER), ("measured", worth)):
        probe._WORTH = most
        summary = encoded(folder, model, spec_of(model, vlm, 3), RayStages, decode=Waiting(wait_s))
        facts = summary.throughput
        print(
            f"| {name} | {facts['workers']['decode']} | {summary.seconds:.0f} | {facts['startup_s']:.0f} |", flush=True
        )
    probe._WORTH = worth


class Waiting:
    """A decoder that waits so many seconds for each segment."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s

    def __call__(self, segments: Any, specs: Sequence[EncoderSpec], **options: Any) -> Iterator[Decoded]:
        for part in decode_segments(segments, specs, **options):
            if len(part.reports):
                time.sleep(self._wait_s)
                rows = part.reports.to_pylist()
                rows[0] |= {"seconds": rows[0]["seconds"] + self._wait_s, "wait_s": rows[0]["wait_s"] + self._wait_s}
                part = Decoded(part.tiles, type(part.reports).from_pylist(rows, schema=part.reports.schema))
            yield part


def bounds(work: Path) -> None:
    model, vlm = loaded("qasir-tiny", work)
    folder = links(render(work / f"videos_{LONG_S:.0f}", N_RENDERED, LONG_S), 24)
    print("\n| N | CPU-seconds | over N = 3 | foretold | said |\n| --- | --- | --- | --- | --- |")
    facts = {n: encoded(folder, model, spec_of(model, vlm, n), RayStages).throughput for n in (3, 2, 4, 5)}
    decode_s, encode_s = facts[3]["cpu_s"]["decode"], facts[3]["cpu_s"]["encode"]
    for n, found in sorted(facts.items()):
        cpu_s = sum(found["cpu_s"].values())
        foretold = (decode_s + encode_s * 9 / n**2) / (decode_s + encode_s)
        print(f"| {n} | {cpu_s:.1f} | {cpu_s / (decode_s + encode_s):.2f} | {foretold:.2f} | {found['bounds']} |")


if __name__ == "__main__":
    typer.run(main)
