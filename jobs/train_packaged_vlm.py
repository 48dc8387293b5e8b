"""Makes the packaged model's weights again, from nothing, or a model of another size in the same way."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run, say
from qasir.demo.training_plan import TrainingPlan


def train_packaged_vlm(
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="An open_clip model config of another size.", show_default="that of qasir-tiny"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The weights to write; with --config a folder, which other jobs take as --model local-dir:FOLDER.",
            show_default="qasir/vlm/packaged/qasir-tiny.safetensors",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder of the training state; a killed run goes on from it.", show_default="build/NAME"),
    ] = None,
    plan: TrainingPlan,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", show_default="all cores")] = None,
    as_json: Json = False,
) -> None:
    """Train on rendered single scenes and write the weights. qasir-tiny takes hours on two cores."""
    import torch

    from qasir.demo.towers import export, export_folder, model_config, packaged_config
    from qasir.demo.train_packaged import train

    name = "qasir-tiny" if config is None else config.stem
    if config is not None and output is None:
        raise typer.BadParameter("--config needs --output, a folder")
    output = output or Path(f"qasir/vlm/packaged/{name}.safetensors")
    sizes = packaged_config() if config is None else model_config(config)
    logging.getLogger("qasir").setLevel(logging.INFO)
    if threads is not None:
        torch.set_num_threads(threads)
    trainer = train(plan, sizes, checkpoint or Path(f"build/{name}"))
    losses, state = trainer.losses, trainer.state
    if config is None:
        export(losses.model, losses.vocabulary, output)
    else:
        export_folder(losses.model, losses.vocabulary, sizes, output)
    say(f"{state.position} steps; weights in {output}")
    if as_json:
        last = state.history[-1:]
        print_json({"steps": state.position, "output": str(output), "plan": asdict(plan), "last": last})


app = job(train_packaged_vlm)

if __name__ == "__main__":
    run(app)
