"""Makes a packaged model's weights again, from nothing."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from jobs.console import Json, job, print_json, run
from qasir.errors import ModelError
from qasir.training.packaged import TrainingPlan, packaged_config, train

_PLAN = TrainingPlan()
MODELS = ("qasir-tiny", "qasir-nano")


def train_packaged_vlm(
    model: Annotated[str, typer.Option(help=f"{' or '.join(MODELS)}.")] = MODELS[0],
    output: Annotated[
        Path | None,
        typer.Option(help="The checkpoint to write (.safetensors).", show_default="qasir/models/MODEL.safetensors"),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder of the training state; a killed run goes on from it.", show_default="build/MODEL"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches of scenes.")] = _PLAN.steps,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and of every scene.")] = _PLAN.seed,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", show_default="all cores")] = None,
    as_json: Json = False,
) -> None:
    """Train a packaged model on rendered single scenes and write its weights. qasir-tiny takes hours on two cores."""
    if model not in MODELS:
        raise ModelError(f"model {model!r}: choose one of {', '.join(MODELS)}")
    output = output or Path(f"qasir/models/{model}.safetensors")
    checkpoint = checkpoint or Path(f"build/{model}")
    logging.getLogger("qasir").setLevel(logging.INFO)
    if threads is not None:
        torch.set_num_threads(threads)
    trainer = train(TrainingPlan(steps=steps, seed=seed), packaged_config(model), checkpoint)
    trainer.export(output)
    facts = {"steps": trainer.step, "output": str(output), "plan": asdict(trainer.plan), "last": trainer.history[-1:]}
    print(f"{trainer.step} steps; weights in {output}")
    if as_json:
        print_json(facts)


app = job(train_packaged_vlm)

if __name__ == "__main__":
    run(app)
