"""Writes a fine-tuned checkpoint; `qasir.retrieval.checkpoint` says what is in it and reads it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from qasir.files.whole import write_bytes, write_whole
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import CONFIG, CURVES, WEIGHTS
from qasir.training.finetune.curves import curves
from qasir.training.finetune.settings import Settings
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
