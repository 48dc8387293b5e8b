"""What sampling keyframes costs in retrieval: the demo benchmark's test set, rendered with a keyframe at least every
2 s and with the encoder's default of every 250 frames, encoded at keyframes and at as many evenly spaced frames.

The frames a second of even samples are those that keyframe sampling took on average. The temperature of the attention
is the one that the study of the demo benchmark chose on validation videos, for both. Sets, indexes and results are kept
in --work, so that running it again does only what is left; docs/RESULTS.md gets its section by the second command.

    python benchmarks/sampling.py --work build/sampling
    python docs/make_results.py --sampling build/sampling
"""

import logging
from pathlib import Path
from typing import Annotated

import pyarrow.compute as pc
import typer

from pipelines.study import Indexes, run_study
from pipelines.study_sources import ON_RAY, Encoding, Videos
from qasir.demo.corpus import BENCHMARK_SEED, BENCHMARK_VIDEOS
from qasir.demo.render import render_corpus
from qasir.encoding.options import EncoderOptions
from qasir.encoding.run import ignore
from qasir.evaluation.metrics import DEFAULT_MV_EDGES
from qasir.study.config import Material, ScoringChoice, StudyConfig

KEYFRAME_S = {"every_2_s": 2.0, "default": None}
"""The most seconds between two keyframes of each set; None leaves it to the encoder."""
GRIDS = (2, 3)
TEMPERATURE = 0.005


def main(
    work: Annotated[Path, typer.Option(help="Folder for videos, indexes and results, kept between runs.")] = Path(
        "build/sampling"
    ),
    videos: Annotated[int, typer.Option(help="Videos a set; another number is another set.")] = BENCHMARK_VIDEOS,
) -> None:
    for name, keyframe_s in KEYFRAME_S.items():
        render_corpus(work / name, videos, BENCHMARK_SEED, keyframe_s=keyframe_s)
        compare(work / name, ON_RAY)


def compare(folder: Path, encoding: Encoding) -> None:
    """Encode a set in both ways and evaluate both; the results are in folder / "study"."""
    material = Material(str(folder / "videos"), folder / "queries.jsonl")
    keyframes = encoders(1.0, "keyframes")
    indexes = Indexes(material, Videos(str(folder / "videos"), folder / "study" / "indexes", encoding))
    broken = indexes.encode(keyframes, ignore)
    if broken:
        raise SystemExit("\n".join(broken.values()))
    fps = sampled_a_second(indexes, keyframes[0])
    config = StudyConfig(
        corpus=material, validation=None, query_format="auto", paragraphs=False, mv_edges=DEFAULT_MV_EDGES,
        encoders=(*keyframes, *encoders(fps, "uniform")), scorings=(ScoringChoice(temperature=TEMPERATURE),),
        finetuned=(), hybrids=(), two_stage=(),
    )  # fmt: skip
    for result in run_study(config, folder / "study", encoding=encoding):
        print(f"{folder.name}: {result['label']}, {result['encodings_per_video']:.1f} encodings a video", end=": ")
        print(f"SumR {result['SumR']:.1f}" if result.is_done else result["reason"], flush=True)


def encoders(fps: float, sampling: str) -> tuple[EncoderOptions, ...]:
    return tuple(
        EncoderOptions(grid=grid, fps=fps, sampling=sampling, cells=False, thumbnails=False)  # type: ignore[arg-type]
        for grid in GRIDS
    )


def sampled_a_second(indexes: Indexes, encoder: EncoderOptions) -> float:
    """Frames a second that an index has on average, to a thousandth."""
    rows = indexes.index(encoder).snapshot().videos(["n_sampled", "duration_s"], "status = 'encoded'")
    return round(pc.sum(rows["n_sampled"]).as_py() / pc.sum(rows["duration_s"]).as_py(), 3)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    typer.run(main)
