"""What can be told of a model's name without importing torch, which takes seconds."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

PACKAGED = "packaged"
"""The `pretrained` of a model whose weights come with the library."""
HUB, FOLDER = "hf-hub:", "local-dir:"


def may_be_resolved(model: str, pretrained: str | None) -> bool:
    """False where `qasir.vlm.weights.resolve` is sure to raise, for one of the most usual mistakes: a model that
    open_clip does not know, or one without weights."""
    if model.startswith((HUB, FOLDER)):
        return not pretrained
    if (Path(str(files("qasir.vlm") / "packaged")) / f"{model}.json").is_file():
        return True
    found = find_spec("open_clip")
    folders = [] if found is None else found.submodule_search_locations or []
    is_known = any((Path(folder) / "model_configs" / f"{model}.json").is_file() for folder in folders)
    return is_known and pretrained not in (None, PACKAGED)
