"""Writes a fine-tuned checkpoint; `qasir.retrieval.checkpoint` says what is in it and reads it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from qasir.files.whole import write_bytes, write_whole
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import CONFIG, CURVES, HISTORY, WEIGHTS
from qasir.training.finetune.curves import curves
from qasir.training.finetune.train import Training


def save_checkpoint(folder: Path, training: Training, spec: EncoderSpec, trained: dict[str, Any]) -> None:
    """Write the best weights so far, the config, the history and the curves; each file whole or not at all."""
    assert training.best is not None
    stored = save({name: value.contiguous() for name, value in training.best_weights.items()})
    write_bytes(folder / WEIGHTS, stored)
    config = {
        "dim": training.model.dim,
        "architecture": asdict(training.settings.architecture),
        "recipe": asdict(training.settings.recipe),
        "encoder": asdict(spec),
        "weights": hashlib.sha256(stored).hexdigest(),
        "trained": {**trained, "parameters": training.model.n_parameters, "best": training.best},
    }
    write_whole(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write_whole(folder / HISTORY, json.dumps(training.history, indent=2) + "\n")
    write_whole(folder / CURVES, curves(training.history))
