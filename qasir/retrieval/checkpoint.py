"""A fine-tuned checkpoint on disk.

finetuned.safetensors   the weights with the best validation SumR
config.json             architecture, recipe, encoder spec, the weights' SHA-256, how it was trained
history.json            one record an epoch; epoch 0 is before training
curves.svg              loss and validation SumR by epoch
last.pt                 what a killed training goes on from
"""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from qasir.errors import ModelError, SpecError
from qasir.files.readable import reason
from qasir.index.spec import EncoderSpec
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.modules import FineTuned
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.vectors import Features

WEIGHTS, CONFIG, CURVES = "finetuned.safetensors", "config.json", "curves.svg"
_MAY_DIFFER = ("cells", "thumbnails", "gates", "colour")
"""Parts of an encoder spec that say what is stored, or how it was made of some videos, not what the stored vectors
are."""


_UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, SafetensorError
)  # fmt: skip
"""What is raised for a file out of reach, JSON of another shape, and weights that are damaged or do not fit."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what it was trained for. weights: the SHA-256 of its file."""

    folder: Path
    model: FineTuned
    recipe: Recipe
    spec: EncoderSpec
    weights: str
    trained: dict[str, Any]

    @property
    def gates(self) -> bool:
        """Whether it was trained to weigh by other vectors than those that it weighs: EERCF's gates, before the
        temporal encoder."""
        return self.recipe.scoring.gated and self.model.temporal is not None

    def video_vectors(self, features: Features) -> Features:
        """The video side of super images, with gates if it has them."""
        tuned = self.model.video_vectors(features)
        return tuned if self.gates else replace(tuned, gates=None)

    def fits(self, spec: EncoderSpec) -> bool:
        """Whether vectors of this spec are of the kind it was trained on."""
        return not _differences(self.spec, spec)

    def check(self, spec: EncoderSpec, uri: str) -> None:
        """Raises SpecError, with both specs, for an index of another encoder spec."""
        if not self.fits(spec):
            lines = [
                f"  {name}: {mine} in the checkpoint, {theirs} in the index"
                for name, mine, theirs in _differences(self.spec, spec)
            ]
            raise SpecError(
                f"the fine-tuned checkpoint {self.folder} was trained on another encoder spec than that of the index "
                f"at {uri}:\n" + "\n".join(lines) + f"\ncheckpoint: {self.spec.to_json()}\nindex:      {spec.to_json()}"
            )


def _differences(trained: EncoderSpec, spec: EncoderSpec) -> list[tuple[str, Any, Any]]:
    return [(name, *both) for name, both in trained.differences(spec).items() if name not in _MAY_DIFFER]


def load_checkpoint(folder: str | Path, *, device: str = "cpu") -> Checkpoint:
    """Raises ModelError that names the file that is missing, cut short or not what the config says."""
    folder = Path(folder).absolute()
    config_path, weights_path = folder / CONFIG, folder / WEIGHTS
    for path in (config_path, weights_path):
        if not path.is_file():
            raise ModelError(f"no fine-tuned checkpoint in {folder}: {path.name} is missing")
    try:
        stored = weights_path.read_bytes()
        sha = hashlib.sha256(stored).hexdigest()
        config = json.loads(config_path.read_text(encoding="utf-8"))
        if sha != config["weights"]:
            raise ModelError(
                f"{weights_path} is not the file that {CONFIG} beside it was written for (cut short, or replaced)"
            )
        model = FineTuned(config["dim"], _made(Architecture, config["architecture"]))
        model.load_state_dict(load(stored))
        if not all(weights.isfinite().all() for weights in model.parameters()):
            raise ModelError(f"{weights_path} holds numbers that are not finite (NaN or infinite): train it again")
        recipe = _made(Recipe, config["recipe"])
        spec = EncoderSpec(**config["encoder"])
        trained = dict(config["trained"])
    except KeyError as error:
        raise ModelError(f"the fine-tuned checkpoint in {folder} cannot be read: {CONFIG} lacks {error}") from error
    except _UNREADABLE as error:
        raise ModelError(f"the fine-tuned checkpoint in {folder} cannot be read: {reason(error)}") from error
    return Checkpoint(folder, model.to(device).eval(), recipe, spec, f"sha256:{sha}", trained)


def _made(kind: Any, values: dict[str, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})
