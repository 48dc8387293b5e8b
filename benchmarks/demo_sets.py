"""The demo benchmark's sets and their indexes, kept in a folder between runs."""

from pathlib import Path

from pipelines.encode import encode_corpus
from qasir.demo.corpus import (
    BENCHMARK_SEED,
    BENCHMARK_VIDEOS,
    FRAME_RATE,
    TRAINING_SEED,
    TRAINING_VIDEOS,
    VALIDATION_SEED,
    VALIDATION_VIDEOS,
)
from qasir.demo.render import render_corpus
from qasir.encoding.models import Target
from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.retrieval.opening import searcher_of
from qasir.retrieval.searcher import Searcher
from qasir.video.corpus import list_videos

SETS = {"validation": (VALIDATION_SEED, VALIDATION_VIDEOS), "test": (BENCHMARK_SEED, BENCHMARK_VIDEOS)}
TRAINING = {"train": (TRAINING_SEED, TRAINING_VIDEOS)}


def render_set(work: Path, name: str) -> None:
    """Render what is missing of a set. The training set has a frame a second, as often as it is sampled: ten times
    sooner."""
    seed, n_videos = {**SETS, **TRAINING}[name]
    render_corpus(work / name, n_videos, seed, frame_rate=1 if name in TRAINING else FRAME_RATE)


def demo_index(
    work: Path, name: str, grid: int, *, model: str = "qasir-tiny", pretrained: str | None = None, cells: bool = False
) -> Searcher:
    """The index of a set at a grid; what is missing of it is encoded first."""
    corpus = list_videos(str(work / name / "videos"))
    options = EncoderOptions(model=model, pretrained=pretrained, grid=grid, cells=cells, thumbnails=False)
    uri = work / name / f"index_n{grid}{'_cells' if cells else ''}"
    index, source = prepare(options, str(uri), corpus)
    summary = encode_corpus(corpus, [Target(index, source)], job="demo_benchmark")[0]
    if summary.encoded:
        print(f"{name}, N = {grid}: {summary.super_images} super images in {summary.seconds:.0f} s", flush=True)
    return searcher_of(index)
