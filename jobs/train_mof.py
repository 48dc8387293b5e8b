"""Trains a VLM with meta-optimised frames (MOF): a few learned frames a video that do what many would."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command_line import Given, Json, job
from jobs.console import print_json, run, say
from qasir.options import Doc, Flag, refuse_useless
from qasir.training.mof.settings import MofSettings, Objective

if TYPE_CHECKING:
    from qasir.training.mof.material import Captioned


@dataclass(frozen=True)
class Data:
    """What is trained and validated on, and where the result goes."""

    videos: Annotated[str, Doc("Folder, glob or manifest of the training videos.")]
    queries: Annotated[Path, Doc("Training queries.")]
    val_videos: Annotated[str, Doc("Folder, glob or manifest of the validation videos.")]
    val_queries: Annotated[Path, Doc("Validation queries.")]
    output: Annotated[Path, Doc("Folder of the result; a killed training there goes on.")]
    query_format: Annotated[str, Doc("Of both query files."), Flag("--format")] = "auto"

    def sets(self) -> "tuple[Captioned, Captioned]":
        """To train on, and to validate on."""
        from qasir.evaluation.query_files import read_queries
        from qasir.training.mof.material import Captioned
        from qasir.video.corpus import list_videos

        queries, held_out = (read_queries(path, self.query_format) for path in (self.queries, self.val_queries))
        return Captioned(list_videos(self.videos), queries), Captioned(list_videos(self.val_videos), held_out)


def train_mof(
    *,
    data: Data,
    model: Annotated[str, typer.Option(help="open_clip model name, hf-hub:ID or local-dir:PATH.")] = "qasir-tiny",
    pretrained: Annotated[str | None, typer.Option(help="open_clip tag or the path of a checkpoint.")] = None,
    settings: MofSettings,
    objective: Objective,
    given: Given,
    as_json: Json = False,
) -> None:
    """Learn frames and model by turns; keep the model that is best at K raw frames of the validation videos."""
    from pipelines.mof import train_mof as train
    from qasir.training.mof.mof_training import MODEL
    from qasir.vlm.model import Vlm
    from qasir.vlm.weights import resolve

    for options in (settings, objective):
        refuse_useless(options, given.options.keys())
    settings = replace(settings, objective=objective)
    told: list[dict[str, Any]] = []

    def tell(record: dict[str, Any]) -> None:
        told.append(record)
        say(epoch_line(told, settings.epochs))

    sets = data.sets()
    result = train(Vlm(resolve(model, pretrained)), *sets, settings, data.output, on_epoch=tell)
    best = result["best"]
    say(
        f"best epoch {best['epoch']}: validation SumR {best['SumR']:.1f} at {settings.frames} raw frames, "
        f"{result['before']['SumR']:.1f} before training; peak memory {result['peak_mib']:.0f} MiB, "
        f"{result['seconds']:.0f} s"
    )
    say(f"checkpoint: --model {model} --pretrained {data.output / MODEL}")
    if as_json:
        facts = {name: value for name, value in result.items() if name != "history"}
        print_json({**facts, "output": str(data.output)})


def epoch_line(history: list[dict[str, Any]], epochs: int) -> str:
    """One line on the last epoch."""
    from qasir.training.epochs import seconds_left

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
