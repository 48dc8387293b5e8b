"""Writes a fine-tuned checkpoint; `qasir.retrieval.checkpoint` says what is in it and reads it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from qasir.evaluation.report.charts import Line, line_chart
from qasir.files.whole import write_bytes, write_whole
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import CONFIG, CURVES, WEIGHTS
from qasir.training.finetune.fine_tuning import Settings
from qasir.training.state import TrainingState


def save_checkpoint(
    folder: Path, state: TrainingState, settings: Settings, spec: EncoderSpec, trained: dict[str, Any]
) -> None:
    """Write the best weights so far, the config and the curves; each file whole or not at all.

    trained: what the config says of the training besides its parameters and its best epoch.
    """
    stored = save({name: value.contiguous() for name, value in state.best_weights.items()})
    n_parameters = sum(value.numel() for value in state.best_weights.values())
    write_bytes(folder / WEIGHTS, stored)
    config = {
        "dim": spec.embedding_dim,
        "architecture": asdict(settings.architecture),
        "recipe": asdict(settings.recipe),
        "encoder": asdict(spec),
        "weights": hashlib.sha256(stored).hexdigest(),
        "trained": {**trained, "parameters": n_parameters, "best": state.best},
    }
    write_whole(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write_whole(folder / CURVES, curves(state.history))


def curves(history: list[dict[str, Any]]) -> str:
    """An SVG picture: the loss of each epoch, and the validation SumR with the zero-shot one as a dashed line."""
    trained = [record for record in history if record["epoch"] > 0]
    epochs = [record["epoch"] for record in trained]
    loss = line_chart([Line("loss", epochs, [record["loss"] for record in trained])], "epoch", "training loss")
    every = [record["epoch"] for record in history]
    sum_r = [
        Line("validation SumR", every, [record["SumR"] for record in history]),
        Line("zero-shot", [every[0], every[-1]], [history[0]["SumR"]] * 2, dashed=True),
    ]
    return stacked(loss, line_chart(sum_r, "epoch", "validation SumR"))


def stacked(*charts: str) -> str:
    """Charts one below another in one SVG file of its own."""
    height = 300
    sized = [chart.replace("<svg ", '<svg width="560" height="280" ', 1) for chart in charts]
    parts = [f'<g transform="translate(0 {i * height})">{chart}</g>' for i, chart in enumerate(sized)]
    style = "text{font:12px sans-serif;fill:#333}"
    colours = "--ink:#222;--soft:#888;--line:#ddd;--accent:#1f6feb;--true:#2a9d4a;--wrong:#c0392b"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="560" height="{height * len(charts)}" style="{colours};background:#fff">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )
