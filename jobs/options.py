"""Options that searching and evaluating share: one index or two, and how they rank."""

from typing import Annotated

import typer

from qasir.retrieval.scoring import AGGREGATIONS, DEFAULT_GATE_TEMPERATURE, DEFAULT_TEMPERATURE

Indexes = Annotated[
    list[str], typer.Option("--index", help="The index; with --hybrid twice, the expensive model's first.")
]
AggregationOption = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(AGGREGATIONS)}; sparse:N needs grid 1.",
        show_default="attention, or what a fine-tuned checkpoint was trained for",
    ),
]
Temperatures = Annotated[
    list[float] | None,
    typer.Option(
        "--temperature",
        help="Of the attention, once per index; towards 0 it becomes max pooling.",
        show_default=f"{DEFAULT_TEMPERATURE}, or the checkpoint's",
    ),
]
GateTemperature = Annotated[
    float | None,
    typer.Option(
        help="Of the text-gated interaction: tib and --rerank.",
        show_default=f"{DEFAULT_GATE_TEMPERATURE}, or the checkpoint's",
    ),
]
FinetunedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--finetuned",
        help="Folder of a fine-tuned checkpoint; goes with the index of the encoder spec it was trained on.",
    ),
]
Hybrid = Annotated[str | None, typer.Option(help="Combine two indexes: fusion or cascade.")]
Weight = Annotated[float, typer.Option(help="Fusion: of the first index's scores, 0 to 1.")]
Recall = Annotated[str | None, typer.Option(help="Coarse to fine: recall by video or super-image.")]
RecallK = Annotated[int, typer.Option(help="Coarse to fine: how many videos are recalled.")]
Rerank = Annotated[str | None, typer.Option(help="Coarse to fine: super-image, cell or both with a comma.")]
