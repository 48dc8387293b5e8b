"""Trains a VLM with meta-optimised frames (MOF): a few learned frames a video that do what many would."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run
from pipelines.mof import train_mof as train
from qasir.evaluation.query_files import read_queries
from qasir.retrieval.scoring import DEFAULT_TEMPERATURE
from qasir.training.finetune.train import seconds_left
from qasir.training.mof.objective import LAYERS, POOLINGS, Objective
from qasir.training.mof.training import METHODS, MODEL, MofSettings
from qasir.video.corpus import list_videos
from qasir.vlm.model import Vlm, resolve


def train_mof(
    videos: Annotated[str, typer.Option(help="Folder, glob or manifest of the training videos.")],
    queries: Annotated[Path, typer.Option(help="Training queries.")],
    val_videos: Annotated[str, typer.Option(help="Folder, glob or manifest of the validation videos.")],
    val_queries: Annotated[Path, typer.Option(help="Validation queries.")],
    output: Annotated[Path, typer.Option(help="Folder of the result; a killed training there goes on.")],
    frames: Annotated[int, typer.Option(help="K: frames learned for each video, and used of one at test.")] = 4,
    dense_frames: Annotated[int, typer.Option(help="|R|: frames that stand for the whole video.")] = 32,
    query_format: Annotated[str, typer.Option("--format", help="Of both query files.")] = "auto",
    model: Annotated[str, typer.Option(help="open_clip model name, hf-hub:ID or local-dir:PATH.")] = "qasir-tiny",
    pretrained: Annotated[str | None, typer.Option(help="open_clip tag or the path of a checkpoint.")] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}: what mof is compared with.")] = "mof",
    layers: Annotated[
        str, typer.Option(help=f"What trains: {', '.join(LAYERS)} (block of each tower, with projections).")
    ] = "last",
    pooling: Annotated[str, typer.Option(help=f"Over a video's frames: {' or '.join(POOLINGS)}.")] = "mean",
    temperature: Annotated[float, typer.Option(help="Of attention pooling.")] = DEFAULT_TEMPERATURE,
    grid: Annotated[int, typer.Option(help="N: above 1 a frame is a super image of N x N frames.")] = 1,
    fps: Annotated[float, typer.Option(help="Frames sampled per second, from which K and |R| are taken.")] = 1.0,
    epochs: Annotated[int, typer.Option(help="Passes over the training videos.")] = MofSettings.epochs,
    batch_size: Annotated[int, typer.Option(help="Videos a batch.")] = MofSettings.batch_size,
    lr: Annotated[float, typer.Option(help="Of the model's AdamW.")] = MofSettings.lr,
    frame_lr: Annotated[
        float, typer.Option(help="Of the frames' Adam, halved every 30 epochs.")
    ] = MofSettings.frame_lr,
    inner_lr: Annotated[
        float, typer.Option(help="alpha: the model's step inside the meta step.")
    ] = MofSettings.inner_lr,
    frame_steps_per_epoch: Annotated[
        int, typer.Option(help="Meta passes an epoch.")
    ] = MofSettings.frame_steps_per_epoch,
    clamp: Annotated[bool, typer.Option(help="Keep learned frames to colours that exist.")] = False,
    seed: Annotated[int, typer.Option(help="Of batches and captions.")] = 0,
    as_json: Json = False,
) -> None:
    """Learn frames and model by turns; keep the model that is best at K raw frames of the validation videos."""
    settings = MofSettings(
        frames=frames, dense_frames=dense_frames, method=method, layers=layers,
        objective=Objective(pooling, temperature), epochs=epochs, batch_size=batch_size, lr=lr, frame_lr=frame_lr,
        inner_lr=inner_lr, frame_steps_per_epoch=frame_steps_per_epoch, clamp=clamp, seed=seed,
    )  # fmt: skip
    asked, held_out = read_queries(queries, query_format), read_queries(val_queries, query_format)
    told: list[dict[str, Any]] = []

    def tell(record: dict[str, Any]) -> None:
        told.append(record)
        print(epoch_line(told, epochs), flush=True)

    result = train(
        Vlm(resolve(model, pretrained)), list_videos(videos), asked, list_videos(val_videos), held_out, settings,
        output, fps=fps, grid=grid, on_epoch=tell,
    )  # fmt: skip
    best = result["best"]
    print(
        f"best epoch {best['epoch']}: validation SumR {best['SumR']:.1f} at {frames} raw frames, {result['before']['SumR']:.1f} "
        f"before training; peak memory {result['peak_mib']:.0f} MiB, {result['seconds']:.0f} s"
    )
    print(f"checkpoint: --model {model} --pretrained {output / MODEL}")
    if as_json:
        print_json({**{name: value for name, value in result.items() if name != "history"}, "output": str(output)})


def epoch_line(history: list[dict[str, Any]], epochs: int) -> str:
    """One line on the last epoch."""
    record = history[-1]
    if record["epoch"] == 0:
        return f"before training   validation SumR {record['SumR']:6.1f}"
    parts = [f"epoch {record['epoch']:3} of {epochs}", f"loss {record['base_loss']:.4f}"]
    if "dense_loss" in record:
        parts.append(f"dense loss {record['dense_loss']:.4f}  frames moved {record['displacement']:.5f}")
    parts.append(f"validation SumR {record['SumR']:6.1f}  {record['seconds']:.1f} s")
    left = seconds_left(history, epochs)
    return "  ".join(parts) + ("" if math.isnan(left) else f"  about {left:.0f} s left")


app = job(train_mof)

if __name__ == "__main__":
    run(app)
