"""Fine-tunes small modules on a frozen VLM's embeddings, from an index's tables and a query file."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run
from pipelines.finetune import Split
from pipelines.finetune import finetune as train
from qasir.evaluation.query_files import read_queries
from qasir.retrieval.modules import Architecture
from qasir.retrieval.recipe import RECIPES, Recipe
from qasir.retrieval.scoring import DEFAULT_GATE_TEMPERATURE, DEFAULT_TEMPERATURE
from qasir.retrieval.searcher import open_index
from qasir.training.finetune.train import Settings, seconds_left


def finetune(
    index: Annotated[str, typer.Option(help="The index of the training videos.")],
    queries: Annotated[Path, typer.Option(help="Training queries.")],
    val_index: Annotated[str, typer.Option(help="The index of the validation videos.")],
    val_queries: Annotated[Path, typer.Option(help="Validation queries.")],
    output: Annotated[Path, typer.Option(help="Folder of the checkpoint; a killed training there goes on.")],
    recipe: Annotated[str, typer.Option(help=f"{' or '.join(RECIPES)}.")] = "qasir",
    query_format: Annotated[str, typer.Option("--format", help="Of both query files.")] = "auto",
    adapters: Annotated[bool, typer.Option(help="Adapters on texts and super images.")] = True,
    temporal: Annotated[bool, typer.Option(help="The temporal encoder over a video's super images.")] = True,
    pearson: Annotated[bool, typer.Option(help="eercf: the Pearson constraint.")] = True,
    aggregation: Annotated[str, typer.Option(help="qasir: attention, mean or max.")] = "attention",
    temperature: Annotated[float, typer.Option(help="qasir: of the attention.")] = DEFAULT_TEMPERATURE,
    gate_temperature: Annotated[
        float, typer.Option(help="eercf: of the text-gated interaction.")
    ] = DEFAULT_GATE_TEMPERATURE,
    epochs: Annotated[int, typer.Option(help="At most.")] = Settings.epochs,
    patience: Annotated[int, typer.Option(help="Stop after so many epochs without a better SumR.")] = Settings.patience,
    batch_size: Annotated[int, typer.Option(help="(query, video) pairs a batch and worker.")] = Settings.batch_size,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = Settings.lr,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = Settings.weight_decay,
    dropout: Annotated[float, typer.Option(help="In all modules.")] = Architecture.dropout,
    bottleneck: Annotated[
        float, typer.Option(help="Hidden width of an adapter over the embedding's.")
    ] = Architecture.bottleneck,
    layers: Annotated[int, typer.Option(help="Of the temporal encoder.")] = Architecture.layers,
    heads: Annotated[int, typer.Option(help="Of the temporal encoder.")] = Architecture.heads,
    margin: Annotated[float, typer.Option(help="qasir: of the triplet loss.")] = Recipe.margin,
    hard_negatives_after: Annotated[
        int, typer.Option(help="qasir: epochs with random negatives.")
    ] = Recipe.hard_negatives_after,
    info_nce_weight: Annotated[
        float, typer.Option(help="qasir: of InfoNCE beside the triplet loss.")
    ] = Recipe.info_nce_weight,
    seed: Annotated[int, typer.Option(help="The same seed gives the same checkpoint on one kind of CPU.")] = 0,
    workers: Annotated[
        int, typer.Option(min=1, help="Ray Train workers; each takes a GPU where there are enough.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Train on the queries of one index, keep what is best on the queries of another."""
    settings = Settings(
        recipe=Recipe(
            name=recipe, aggregation=aggregation, temperature=temperature, gate_temperature=gate_temperature,
            pearson=pearson, margin=margin, hard_negatives_after=hard_negatives_after, info_nce_weight=info_nce_weight,
        ),
        architecture=Architecture(
            text_adapter=adapters, image_adapter=adapters, temporal=temporal, bottleneck=bottleneck, layers=layers,
            heads=heads, dropout=dropout,
        ),
        epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay, patience=patience, seed=seed,
    )  # fmt: skip
    asked, held_out = read_queries(queries, query_format), read_queries(val_queries, query_format)
    told: list[dict[str, Any]] = []

    def tell(record: dict[str, Any]) -> None:
        told.append(record)
        print(epoch_line(told, settings.epochs), flush=True)

    result = train(
        Split.of(open_index(index), asked), Split.of(open_index(val_index), held_out), settings, output,
        workers=workers, on_epoch=tell,
    )  # fmt: skip
    best, before = result["best"], result["zero_shot"]
    print(
        f"best epoch {best['epoch']}: validation SumR {best['SumR']:.1f}, zero-shot {before['SumR']:.1f} "
        f"({result['parameters']:,} parameters, {result['seconds']:.0f} s)"
    )
    print(f"checkpoint: {output}")
    if as_json:
        facts = {name: value for name, value in result.items() if name != "history"}
        print_json({**facts, "output": str(output)})


def epoch_line(history: list[dict[str, Any]], epochs: int) -> str:
    """One line on the last epoch: loss, validation SumR, time left."""
    record = history[-1]
    if record["epoch"] == 0:
        return f"zero-shot     validation SumR {record['SumR']:6.1f}  R@1 {record['R@1']:5.1f}"
    left = seconds_left(history, epochs)
    rest = "" if math.isnan(left) else f"  at most {left:.0f} s left"
    return (
        f"epoch {record['epoch']:3} of {epochs}  loss {record['loss']:.4f}  validation SumR {record['SumR']:6.1f}  "
        f"R@1 {record['R@1']:5.1f}  {record['seconds']:.1f} s{rest}"
    )


app = job(finetune)

if __name__ == "__main__":
    run(app)
