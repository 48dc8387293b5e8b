import json

import numpy as np
import pytest
import torch

from qasir.errors import ModelError, SpecError
from qasir.index.index import Index
from qasir.retrieval.checkpoint import WEIGHTS, load_checkpoint
from qasir.retrieval.modules import Architecture
from qasir.retrieval.recipe import Recipe
from qasir.training.finetune.saving import save_checkpoint
from qasir.training.finetune.train import Settings, Training, Validation, seconds_left
from qasir.training.state import LAST, check_same, load_state, save_state
from tests.indexes import make_index
from tests.qasir.training.finetune.made_up import batch, ragged, unit_rows

SETTINGS = Settings(recipe=Recipe(hard_negatives_after=1), epochs=4, batch_size=6, lr=3e-3)


def batches():
    return [batch([3, 2, 4, 1, 2, 3], video=list(range(6)), cells=2, seed=s) for s in (0, 10)]


def validation():
    features, *_ = ragged(50, [3, 2, 4])
    return Validation(unit_rows(60, 5, 16), features, np.array([0, 1, 2, 0, 1]))


def train(training, epochs):
    for _ in range(epochs):
        losses = training.run_epoch(batches())
        training.finish_epoch(losses, validation().metrics(training.model, training.settings.recipe), 1.0)
    return training


def weights(training):
    return torch.cat([p.detach().flatten() for p in training.objective.parameters()])


@pytest.mark.parametrize("name", ["qasir", "eercf"])
def test_training_lowers_the_loss(name):
    settings = Settings(recipe=Recipe(name, hard_negatives_after=0), epochs=15, lr=3e-3)
    history = train(Training(16, settings, 2), 15).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert all(np.isfinite(record["SumR"]) for record in history)


def test_a_seed_gives_one_model():
    first, second = (train(Training(16, SETTINGS, 2), 2) for _ in range(2))
    assert torch.equal(weights(first), weights(second))
    other = train(Training(16, Settings(**{**vars(SETTINGS), "seed": 1}), 2), 2)
    assert not torch.equal(weights(first), weights(other))


def test_going_on_equals_never_having_stopped(tmp_path):
    whole = train(Training(16, SETTINGS, 2), 4)
    half = train(Training(16, SETTINGS, 2), 2)
    save_state(tmp_path, {"a": 1}, half.state())
    rest = Training(16, SETTINGS, 2)
    rest.load_state(load_state(tmp_path))
    train(rest, 2)
    assert torch.equal(weights(whole), weights(rest))
    assert rest.history == whole.history
    assert rest.best == whole.best


def test_the_best_epoch_is_kept_and_waiting_ends():
    training = Training(16, Settings(epochs=50, patience=2), 1)
    for sum_r in (10.0, 30.0, 20.0, 30.0):
        assert not training.is_over
        training.run_epoch(batches()[:1])
        training.finish_epoch({"loss": 1.0}, {"SumR": sum_r}, 1.0)
        if sum_r == 30.0 and training.epoch == 2:
            kept = training.model.text_adapter.up.weight.detach().clone()
    assert training.is_over
    assert training.best["epoch"] == 2
    assert torch.equal(training.best_weights["text_adapter.up.weight"], kept)
    assert not torch.equal(training.best_weights["text_adapter.up.weight"], training.model.text_adapter.up.weight)


def test_time_left_is_of_the_epochs_left():
    history = [{"epoch": 0, "seconds": 0.0}, {"epoch": 1, "seconds": 2.0}, {"epoch": 2, "seconds": 4.0}]
    assert seconds_left(history, 10) == 24.0


@pytest.fixture
def saved(tmp_path):
    """(folder, spec, training) of a checkpoint."""
    spec = Index.open(make_index(tmp_path / "i", [2, 3]).uri).spec
    training = train(Training(16, SETTINGS, 2), 2)
    training.history.insert(0, {**training.history[0], "epoch": 0, "loss": None})
    folder = tmp_path / "out"
    folder.mkdir()
    save_checkpoint(folder, training, spec, {"queries": 12})
    return folder, spec, training


def test_a_checkpoint_is_what_was_trained(saved):
    folder, spec, training = saved
    loaded = load_checkpoint(folder)
    assert loaded.spec == spec
    assert loaded.recipe == SETTINGS.recipe
    assert loaded.trained["parameters"] == training.model.n_parameters
    assert len(json.loads((folder / "history.json").read_text())) == 3
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, training.best_weights[name])
    picture = (folder / "curves.svg").read_text()
    assert picture.startswith("<svg")
    assert "validation SumR" in picture
    assert "nan" not in picture


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_checkpoint_cut_short_is_refused(saved, keep):
    folder, *_ = saved
    stored = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(stored[:keep])
    with pytest.raises(ModelError, match=WEIGHTS):
        load_checkpoint(folder)


def test_a_folder_without_a_checkpoint_is_refused(saved, tmp_path):
    folder, *_ = saved
    with pytest.raises(ModelError, match=r"no fine-tuned checkpoint in .*config.json is missing"):
        load_checkpoint(tmp_path / "nothing")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(folder)


def test_another_encoder_spec_is_refused_with_both_shown(saved, tmp_path):
    loaded = load_checkpoint(saved[0])
    other = make_index(tmp_path / "other", [2], grid=3).spec
    with pytest.raises(SpecError) as error:
        loaded.check(other, "there")
    assert "grid: 2 in the checkpoint, 3 in the index" in str(error.value)
    assert str(error.value).count('"model"') == 2
    loaded.check(make_index(tmp_path / "plain", [2], cells=False).spec, "there")


def test_a_folder_of_another_training_is_refused(tmp_path):
    save_state(tmp_path, {"lr": 0.1, "seed": 0}, Training(16, SETTINGS, 2).state())
    check_same(tmp_path, {"lr": 0.1, "seed": 0})
    with pytest.raises(SpecError, match=r"lr: 0.1 then, 0.2 now"):
        check_same(tmp_path, {"lr": 0.2, "seed": 0})
    (tmp_path / LAST).write_bytes(b"damaged")
    with pytest.raises(ModelError, match=LAST):
        check_same(tmp_path, {})


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": 0.0}, {"weight_decay": -1.0}, {"patience": 0}], ids=lambda w: next(iter(w))
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(SpecError):
        Settings(**wrong)


@pytest.mark.parametrize("wrong", [{"name": "x"}, {"aggregation": "tib"}, {"margin": -1}, {"temperature": 0}])
def test_bad_recipes_are_refused(wrong):
    with pytest.raises(SpecError):
        Recipe(**wrong)


def test_parts_that_are_left_out_have_no_parameters():
    whole = Training(16, Settings(), 1).model.n_parameters
    adapters = Training(16, Settings(architecture=Architecture(temporal=False)), 1).model.n_parameters
    temporal = Training(
        16, Settings(architecture=Architecture(text_adapter=False, image_adapter=False)), 1
    ).model.n_parameters
    assert whole == adapters + temporal
