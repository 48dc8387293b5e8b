"""A fine-tuned checkpoint that is damaged, hostile or of another shape is refused in one line that names it."""

import hashlib
import json
import pickle

import pytest
import torch
from safetensors.torch import load, save

from qasir.errors import ModelError
from qasir.retrieval.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from tests.indexes import make_index
from tests.qasir.retrieval.test_tuned import make_checkpoint


@pytest.fixture
def folder(tmp_path):
    make_checkpoint(tmp_path / "c", make_index(tmp_path / "index", [3]).spec)
    return tmp_path / "c"


def rewritten(folder, change):
    """The config after `change`, a function of it, for the weights that are there."""
    config = json.loads((folder / CONFIG).read_text())
    config["weights"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CONFIG).write_text(json.dumps(change(config)))


def with_weights(folder, stored):
    (folder / WEIGHTS).write_bytes(stored)
    rewritten(folder, lambda config: config)


class Hostile:
    def __reduce__(self):
        return print, ("this was run",)


def hostile(folder):
    with_weights(folder, pickle.dumps(Hostile()))


def not_finite(folder):
    weights = load((folder / WEIGHTS).read_bytes())
    next(iter(weights.values())).view(-1)[0] = torch.nan
    with_weights(folder, save(weights))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (hostile, "cannot be read"),
        (not_finite, "not finite"),
        (lambda folder: with_weights(folder, (folder / WEIGHTS).read_bytes()[:-9]), "cannot be read"),
        (lambda folder: with_weights(folder, b""), "cannot be read"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"other"), "cut short, or replaced"),
        (lambda folder: (folder / CONFIG).write_text(""), "cannot be read"),
        (lambda folder: (folder / CONFIG).write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "cannot be read"),
        (lambda folder: (folder / CONFIG).write_text("[" * 100_000), "cannot be read"),
        (lambda folder: rewritten(folder, lambda config: {}), "lacks 'weights'"),
        (lambda folder: rewritten(folder, lambda config: {**config, "architecture": []}), "cannot be read"),
        (lambda folder: rewritten(folder, lambda config: {**config, "dim": "16"}), "cannot be read"),
        (lambda folder: rewritten(folder, lambda config: {**config, "dim": 1 << 50}), "cannot be read"),
        (lambda folder: rewritten(folder, lambda config: {**config, "encoder": None}), "cannot be read"),
        (lambda folder: rewritten(folder, lambda config: {**config, "trained": 3}), "cannot be read"),
    ],
)
def test_it_is_refused_in_one_line(folder, damage, says, capsys):
    damage(folder)
    with pytest.raises(ModelError, match=says) as error:
        load_checkpoint(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == "", "nothing of it was run"
