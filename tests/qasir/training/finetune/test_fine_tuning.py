import copy

import numpy as np
import pytest
import torch

from qasir.errors import SpecError
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.recipe import Recipe
from qasir.training.finetune.fine_tuning import FineTuning
from qasir.training.finetune.settings import Settings
from tests.qasir.training.finetune.made_up import batch

SETTINGS = Settings(recipe=Recipe(hard_negatives_after=1), epochs=4, batch_size=6, lr=3e-3)


def batches():
    return [batch([3, 2, 4, 1, 2, 3], video=list(range(6)), cells=2, seed=s) for s in (0, 10)]


def train(training, epochs):
    """The mean losses of each epoch."""
    return [training.run_epoch(batches(), epoch) for epoch in range(epochs)]


def weights(training):
    return torch.cat([p.detach().flatten() for p in training.objective.parameters()])


@pytest.mark.parametrize("name", ["qasir", "eercf"])
def test_training_lowers_the_loss(name):
    settings = Settings(recipe=Recipe(name, hard_negatives_after=0), epochs=15, lr=3e-3)
    losses = train(FineTuning(16, settings, 2), 15)
    assert losses[-1]["loss"] < 0.8 * losses[0]["loss"]


def test_a_seed_gives_one_model():
    first, second, other = (
        FineTuning(16, settings, 2) for settings in (SETTINGS, SETTINGS, Settings(**{**vars(SETTINGS), "seed": 1}))
    )
    for training in (first, second, other):
        train(training, 2)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_an_epoch_after_a_kill_is_the_one_that_would_have_been():
    """Whatever was drawn before: dropout and negatives follow from the seed and the epoch."""
    whole, again = FineTuning(16, SETTINGS, 2), FineTuning(16, SETTINGS, 2)
    train(whole, 2)
    again.load_state_dict(copy.deepcopy(whole.state_dict()))  # torch shares tensors
    expected = whole.run_epoch(batches(), 2)
    torch.rand(7)
    assert again.run_epoch(batches(), 2) == expected
    assert torch.equal(weights(whole), weights(again))


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


@pytest.mark.parametrize(
    ("options", "useless"),
    [
        (Recipe(), {"gate_temperature", "pearson"}),
        (Recipe(aggregation="max"), {"gate_temperature", "pearson", "temperature"}),
        (Recipe("eercf"), {"aggregation", "temperature", "margin", "hard_negatives_after", "info_nce_weight"}),
        (Architecture(), set()),
        (Architecture(temporal=False), {"layers", "heads"}),
        (Architecture(text_adapter=False, image_adapter=False), {"bottleneck"}),
    ],
)
def test_what_a_choice_has_no_use_for_is_listed(options, useless):
    assert set(options.useless) == useless


def test_what_a_choice_has_no_use_for_changes_nothing():
    """So that nothing is refused that would have had an effect."""
    for recipe, other in (
        (Recipe(), Recipe(gate_temperature=0.5, pearson=False)),
        (Recipe(aggregation="mean"), Recipe(aggregation="mean", temperature=0.5)),
        (Recipe("eercf"), Recipe("eercf", aggregation="mean", temperature=0.5, margin=0.5, hard_negatives_after=0)),
    ):
        one, two = (FineTuning(16, Settings(recipe=made), 2) for made in (recipe, other))
        train(one, 2)
        train(two, 2)
        assert torch.equal(weights(one), weights(two))


def test_parts_that_are_left_out_have_no_parameters():
    def n_parameters(**parts):
        return FineTuning(16, Settings(architecture=Architecture(**parts)), 1).model.n_parameters

    assert n_parameters() == n_parameters(temporal=False) + n_parameters(text_adapter=False, image_adapter=False)


def test_losses_are_finite():
    assert all(np.isfinite(list(losses.values())).all() for losses in train(FineTuning(16, SETTINGS, 2), 3))
