"""Makes the packaged model's weights again, from nothing."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from jobs.console import Json, job, print_json, run
from qasir.training.packaged import TrainingPlan, packaged_config, train

_PLAN = TrainingPlan()


def train_packaged_vlm(
    output: Annotated[Path, typer.Option(help="The checkpoint to write (.safetensors).")] = Path(
        "qasir/models/qasir-tiny.safetensors"
    ),
    checkpoint: Annotated[
        Path, typer.Option(help="Folder of the training state; a killed run goes on from it.")
    ] = Path("build/qasir-tiny"),
    steps: Annotated[int, typer.Option(min=1, help="Batches of scenes.")] = _PLAN.steps,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and of every scene.")] = _PLAN.seed,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", show_default="all cores")] = None,
    as_json: Json = False,
) -> None:
    """Train qasir-tiny on rendered single scenes and write its weights. Takes hours on two cores."""
    logging.getLogger("qasir").setLevel(logging.INFO)
    if threads is not None:
        torch.set_num_threads(threads)
    trainer = train(TrainingPlan(steps=steps, seed=seed), packaged_config(), checkpoint)
    trainer.export(output)
    facts = {"steps": trainer.step, "output": str(output), "plan": asdict(trainer.plan), "last": trainer.history[-1:]}
    print(f"{trainer.step} steps; weights in {output}")
    if as_json:
        print_json(facts)


app = job(train_packaged_vlm)

if __name__ == "__main__":
    run(app)
