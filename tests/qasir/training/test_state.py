import pytest
import torch
from torch import nn

from qasir.errors import ModelError, SpecError
from qasir.training.epochs import seconds_left
from qasir.training.state import LAST, TrainingState

ASKED = {"lr": 0.1, "seed": 0, "recipe": {"name": "qasir"}}


@pytest.fixture
def saved(tmp_path):
    """(folder, a state two epochs on, what was trained)."""
    state, module = TrainingState.of(tmp_path, "made up", ASKED), nn.Linear(2, 3)
    for sum_r in (10.0, 5.0):
        state.finish_epoch({"SumR": sum_r}, module.state_dict())
    state.save(module, tmp_path)
    return tmp_path, state, module


def test_a_folder_without_a_state_begins_one(tmp_path):
    state = TrainingState.of(tmp_path, "made up", ASKED)
    assert (state.position, state.history, state.best, state.parts) == (0, [], None, None)
    assert state.asked == {"lr": 0.1, "seed": 0, "recipe.name": "qasir"}


def test_a_state_comes_back_whole(saved):
    folder, state, module = saved
    found, other = TrainingState.of(folder, "made up", ASKED), nn.Linear(2, 3)
    found.restore(other, folder)
    assert torch.equal(other.weight, module.weight)
    assert (found.position, found.history, found.best) == (2, state.history, {"epoch": 1, "SumR": 10.0})
    assert torch.equal(found.best_weights["bias"], module.bias)


def test_the_first_best_epoch_is_kept():
    state = TrainingState("made up", {})
    weights = torch.zeros(1)
    for sum_r in (10.0, 30.0, 20.0, 30.0):
        weights = weights + 1
        state.finish_epoch({"SumR": sum_r}, {"w": weights})
    assert state.best == {"epoch": 2, "SumR": 30.0}
    assert state.best_weights["w"].item() == 2.0


def test_kept_weights_do_not_train_on():
    module, state = nn.Linear(1, 1), TrainingState("made up", {})
    state.finish_epoch({"SumR": 1.0}, module.state_dict())
    with torch.no_grad():
        module.weight.fill_(7.0)
    assert state.best_weights["weight"].item() != 7.0


def test_other_settings_are_refused_with_their_differences(saved):
    with pytest.raises(SpecError) as error:
        TrainingState.of(saved[0], "made up", {"lr": 0.2, "seed": 0, "recipe": {"name": "eercf", "margin": 1}})
    lines = str(error.value).splitlines()
    assert "choose another folder" in lines[0]
    assert lines[1:] == [
        "  lr: 0.1 then, 0.2 now", "  recipe.margin: None then, 1 now", "  recipe.name: qasir then, eercf now",
    ]  # fmt: skip


def test_another_training_is_refused(saved):
    with pytest.raises(SpecError, match=rf"{LAST} is of another training, made up, not of another"):
        TrainingState.of(saved[0], "another", ASKED)


@pytest.mark.parametrize("content", [b"damaged", b""])
def test_a_damaged_file_is_named(saved, content):
    (saved[0] / LAST).write_bytes(content)
    with pytest.raises(ModelError, match=LAST):
        TrainingState.of(saved[0], "made up", ASKED)


@pytest.mark.parametrize("stored", [{"asked": {}, "state": {}}, [1, 2], nn.Linear(1, 1).state_dict()])
def test_a_foreign_file_is_named(tmp_path, stored):
    torch.save(stored, tmp_path / LAST)
    with pytest.raises(ModelError, match=LAST):
        TrainingState.of(tmp_path, "made up", ASKED)


def test_a_state_of_other_modules_is_named(saved):
    with pytest.raises(ModelError, match=f"{LAST} does not fit"):
        TrainingState.of(saved[0], "made up", ASKED).restore(nn.Linear(5, 5), saved[0])


def test_time_left_is_of_the_epochs_left():
    history = [{"epoch": 0, "seconds": 0.0}, {"epoch": 1, "seconds": 2.0}, {"epoch": 2, "seconds": 4.0}]
    assert seconds_left(history, 10) == 24.0
