"""Meta-optimised frames on the demo benchmark: trained with MOF, on K plain frames, on all frames, and zero-shot.

    python benchmarks/mof.py --work build/demo_benchmark [--videos 100] [--frames 4] [--epochs 5] [--seed 0 ...]

The same K at test for all, the same base training (passes, batches, learning rate). Trained on the first videos of the
training set, the best epoch chosen on the validation set, SumR on the test set by K raw frames; and, for the reading in
which a corpus is optimised once and then searched by its compressed frames, SumR on the training corpus by its raw and
its compressed frames.
"""

import json
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from demo_sets import SETS, TRAINING, render_set

from pipelines.mof import read_by_tasks, train_mof
from qasir.evaluation.metrics import bootstrap, paired_difference, summarise
from qasir.evaluation.query_files import read_queries
from qasir.training.mof.clip_table import clips_of
from qasir.training.mof.frame_table import FrameTable
from qasir.training.mof.material import Captioned, Material
from qasir.training.mof.mof_training import FRAMES_TABLE, MODEL
from qasir.training.mof.pixels import PixelScale
from qasir.training.mof.settings import MofSettings, Objective
from qasir.video.corpus import list_videos
from qasir.video.tile import Tiling
from qasir.vlm.model import Vlm
from qasir.vlm.weights import resolve

ARMS = ("mof", "plain", "dense")


def main(
    work: Annotated[Path, typer.Option(help="Folder for videos and results, kept between runs.")] = Path(
        "build/demo_benchmark"
    ),
    videos: Annotated[int, typer.Option(help="Of the training set.")] = 100,
    validation_videos: Annotated[int, typer.Option(help="Of the validation set.")] = 300,
    test_videos: Annotated[int, typer.Option(help="Of the test set.")] = 300,
    frames: Annotated[int, typer.Option(help="K.")] = 4,
    dense_frames: Annotated[int, typer.Option(help="|R|.")] = 32,
    grid: Annotated[int, typer.Option(help="N.")] = 1,
    epochs: Annotated[int, typer.Option()] = 5,
    batch_size: Annotated[int, typer.Option()] = 16,
    lr: Annotated[float, typer.Option(help="Base learning rate, for all.")] = 1e-4,
    frame_lr: Annotated[float, typer.Option()] = 8e-4,
    inner_lr: Annotated[float, typer.Option()] = 1.0,
    pooling: Annotated[str, typer.Option()] = "attention",
    seed: Annotated[list[int] | None, typer.Option(help="Of training.", show_default="0, 1 and 2")] = None,
    arm: Annotated[list[str] | None, typer.Option(help=", ".join(ARMS), show_default="all")] = None,
) -> None:
    sets = {**SETS, **TRAINING}
    captioned: dict[str, Captioned] = {}
    for name in sets:
        render_set(work, name)
        whole = list_videos(str(work / name / "videos"))
        kept = whole.videos[: {"train": videos, "validation": validation_videos, "test": test_videos}[name]]
        ids = {video.video_id for video in kept}
        queries = [q for q in read_queries(work / name / "queries.jsonl") if q.video_id in ids]
        captioned[name] = Captioned(replace(whole, videos=kept), queries)
    base = MofSettings(
        frames=frames, dense_frames=dense_frames, objective=Objective(pooling), grid=grid, epochs=epochs,
        batch_size=batch_size,
        lr=lr, frame_lr=frame_lr, inner_lr=inner_lr,
    )  # fmt: skip
    vlm = Vlm(resolve("qasir-tiny"), device="cpu")
    tiling = Tiling(Fraction(1), grid, vlm.image_size)
    held = work / "mof" / f"test_{test_videos}_n{grid}_k{frames}.lance"
    held.parent.mkdir(parents=True, exist_ok=True)
    scoring = base.objective.scoring
    clips = clips_of(captioned["test"].corpus, str(held), tiling, frames, read_by_tasks)
    test = Material(clips, captioned["test"].queries, PixelScale(*vlm.pixel_scale))
    raw = partial(test.frames, k=frames)
    groups = [query.video_id for query in test.queries]
    before = test.ranks(vlm, raw, scoring)
    print(f"{videos} training videos, K = {frames}, |R| = {dense_frames}, N = {grid}, {epochs} epochs, {pooling}\n")
    print(
        "| | seed | R@1 | R@10 | SumR (95 %) | over zero-shot | frames moved | s an epoch | peak MiB | corpus by raw "
        "/ compressed |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    results = [line("zero-shot", "", before, before, groups, {})]
    ranks: dict[str, list[Any]] = {}
    for one in seed or (0, 1, 2):
        for name in arm or ARMS:
            settings = replace(base, method=name, seed=one)
            out = work / "mof" / f"{name}_n{grid}_k{frames}_v{videos}_e{epochs}_lr{lr:g}_f{frame_lr:g}_s{one}"
            done = train_mof(
                Vlm(resolve("qasir-tiny"), device="cpu"), captioned["train"], captioned["validation"], settings, out
            )
            tuned = Vlm(resolve("qasir-tiny", str(out / MODEL)), device="cpu")
            rank = test.ranks(tuned, raw, scoring)
            ranks.setdefault(name, []).append(rank)
            facts = {
                "moved": done["history"][-1].get("displacement"), "peak_mib": done["peak_mib"],
                "epoch_s": float(np.mean([r["seconds"] for r in done["history"][1:]])),
            }  # fmt: skip
            if name == "mof":
                facts["corpus"] = corpus_readings(tuned, captioned["train"], settings, tiling, out)
            results.append(line(name, str(one), rank, before, groups, facts))
    if {"mof", "plain"} <= set(ranks):
        ours, theirs = (np.concatenate(ranks[name]) for name in ("mof", "plain"))
        value, low, high = paired_difference(ours, theirs, groups * len(ranks["mof"]))["SumR"]
        print(f"\nmof minus plain over all seeds: SumR {value:+.2f} ({low:+.2f} to {high:+.2f})")
        results.append({"name": "mof minus plain", "difference": [value, low, high]})
    (work / f"mof_k{frames}_f{frame_lr:g}.json").write_text(json.dumps(results, indent=2) + "\n")


def corpus_readings(
    tuned: Vlm, train: Captioned, settings: MofSettings, tiling: Tiling, out: Path
) -> tuple[float, float]:
    """SumR on the training corpus by its K raw frames and by its compressed ones, with the same model."""
    clips = clips_of(train.corpus, str(out / "clips_train.lance"), tiling, settings.dense_frames, read_by_tasks)
    material = Material(clips, train.queries, PixelScale(*tuned.pixel_scale))
    learned = FrameTable(str(out / FRAMES_TABLE))
    raw, compressed = (
        summarise(material.ranks(tuned, frames, settings.objective.scoring))["SumR"]
        for frames in (partial(material.frames, k=settings.frames), lambda ids: learned.load(ids).frames)
    )
    return raw, compressed


def line(name: str, seed: str, rank: Any, before: Any, groups: list[str], facts: dict[str, Any]) -> dict[str, Any]:
    m, (low, high) = summarise(rank), bootstrap(rank, groups)["SumR"]
    more = " | | | |"
    row: dict[str, Any] = {"name": name, "seed": seed, "metrics": m, "ci95": [low, high], **facts}
    if facts:
        row["difference"] = value, least, most = paired_difference(rank, before, groups)["SumR"]
        moved = "" if facts["moved"] is None else f"{facts['moved']:.5f}"
        corpus = "{:.1f} / {:.1f}".format(*facts["corpus"]) if "corpus" in facts else ""
        took = f"{facts['epoch_s']:.0f} | {facts['peak_mib']:.0f} | {corpus}"
        more = f" {value:+.1f} ({least:+.1f} to {most:+.1f}) | {moved} | {took}"
    print(
        f"| {name} | {seed} | {m['R@1']:.1f} | {m['R@10']:.1f} | {m['SumR']:.1f} ({low:.0f} to {high:.0f}) |{more} |",
        flush=True,
    )
    return row


if __name__ == "__main__":
    typer.run(main)
