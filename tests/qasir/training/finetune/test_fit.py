"""Fine-tuning from tables to a checkpoint, without Ray."""

import json
from dataclasses import replace

import pytest
import torch

from qasir.errors import ModelError, QueryError, SpecError
from qasir.evaluation.query import Query
from qasir.index.index import Index
from qasir.index.spec import TONE_MAPPED
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.checkpoint import WEIGHTS, load_checkpoint
from qasir.retrieval.opening import open_index
from qasir.retrieval.recipe import Recipe
from qasir.training.finetune.examples import Pairs, VideoRows
from qasir.training.finetune.fit import finetune
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.task import Split, Task, Validation
from tests.indexes import DIM, make_index
from tests.qasir.training.dying import writes_survived
from tests.qasir.training.finetune.made_up import ragged, unit_rows

LENGTHS = [3, 1, 6, 2]
VIDEOS = [0, 1, 2, 3] * 6
QUICK = Settings(architecture=Architecture(bottleneck=0.5), epochs=2, batch_size=8, lr=3e-3)


def make_task(folder, settings=QUICK):
    """Texts are made up: no model is needed. The index is made where there is none yet."""
    there = folder / "i"
    snapshot = (Index.open(str(there)) if there.exists() else make_index(there, LENGTHS)).snapshot()
    queries = [Query(str(i), f"query {i}", f"v{v:03}") for i, v in enumerate(VIDEOS)]
    pairs = Pairs.of(snapshot, queries, unit_rows(0, len(VIDEOS), DIM))
    features, *_ = ragged(50, [3, 2, 4])
    validation = Validation(unit_rows(60, 5, DIM), features, [[0], [1], [2], [0], [1]])
    source = VideoRows.of(snapshot, cells=settings.recipe.name == "eercf")
    asked = {"lr": settings.lr, "seed": settings.seed}
    return Task(settings, settings.batch_size, pairs, validation, source, snapshot.spec, asked)


def train_in(folder):
    torch.set_num_threads(1)
    finetune(make_task(folder.parent), folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, result) of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    told = []
    result = finetune(make_task(folder), folder / "out", on_epoch=told.append)
    assert told == result["history"]
    return folder / "out", result


def test_training_leaves_a_checkpoint(whole):
    folder, result = whole
    assert {path.name for path in folder.iterdir()} == {
        "finetuned.safetensors", "config.json", "history.json", "curves.svg", "last.pt",
    }  # fmt: skip
    history = json.loads((folder / "history.json").read_text())
    assert [record["epoch"] for record in history] == [0, 1, 2]
    assert {"SumR", "R@1", "loss", "seconds"} <= set(history[1])
    assert result["best"]["SumR"] == max(record["SumR"] for record in history[1:])
    loaded = load_checkpoint(folder)
    assert loaded.recipe == QUICK.recipe
    assert loaded.trained["parameters"] == result["parameters"] == loaded.model.n_parameters
    assert (loaded.trained["queries"], loaded.trained["videos"]) == (24, 4)


def test_the_curves_are_drawn(whole):
    picture = (whole[0] / "curves.svg").read_text()
    assert picture.startswith("<svg")
    assert "validation SumR" in picture
    assert "nan" not in picture


def test_training_that_has_ended_stays_as_it_is(whole):
    folder, result = whole
    before = (folder / WEIGHTS).read_bytes()
    again = finetune(make_task(folder.parent), folder)
    assert again["best"] == result["best"]
    assert again["history"] == result["history"]
    assert (folder / WEIGHTS).read_bytes() == before


@pytest.mark.slow
def test_a_training_killed_at_any_write_goes_on_to_the_same_checkpoint(whole, tmp_path):
    """A process that ends before its first, second, ... write; then the same again, to the end."""
    make_task(tmp_path)
    n_killed = 0
    for folder, was_killed in writes_survived(train_in, (tmp_path / str(n) for n in range(100))):
        told = []
        result = finetune(make_task(tmp_path), folder, on_epoch=told.append)
        assert [record["epoch"] for record in told] == [0, 1, 2]
        assert result["best"]["epoch"] == whole[1]["best"]["epoch"]
        assert (folder / WEIGHTS).read_bytes() == (whole[0] / WEIGHTS).read_bytes()
        if not was_killed:
            break
        n_killed += 1
    assert n_killed >= 2 * 2 + 4  # a state and a history an epoch, and a checkpoint's files


@pytest.mark.parametrize("recipe", ["qasir", "eercf"])
def test_waiting_for_a_better_epoch_ends(recipe, tmp_path):
    settings = Settings(recipe=Recipe(recipe), epochs=50, patience=2, batch_size=8, lr=1e-9)
    result = finetune(make_task(tmp_path, settings), tmp_path / "out")
    assert result["epochs"] == result["best"]["epoch"] + 2 < 50


def test_other_settings_need_another_folder(whole):
    folder, _ = whole
    with pytest.raises(SpecError, match="lr: 0.003 then, 0.1 now"):
        finetune(make_task(folder.parent, Settings(lr=0.1)), folder)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_checkpoint_cut_short_is_refused(whole, tmp_path, keep):
    copy_of(whole[0], tmp_path)
    stored = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(stored[:keep])
    with pytest.raises(ModelError, match=WEIGHTS):
        load_checkpoint(tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(whole, tmp_path):
    copy_of(whole[0], tmp_path)
    with pytest.raises(ModelError, match=r"no fine-tuned checkpoint in .*config.json is missing"):
        load_checkpoint(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(tmp_path)


def copy_of(folder, there):
    for name in (WEIGHTS, "config.json"):
        (there / name).write_bytes((folder / name).read_bytes())


def test_another_encoder_spec_is_refused_with_both_shown(whole, tmp_path):
    loaded = load_checkpoint(whole[0])
    other = make_index(tmp_path / "other", [2], grid=3).spec
    with pytest.raises(SpecError) as error:
        loaded.check(other, "there")
    assert "grid: 2 in the checkpoint, 3 in the index" in str(error.value)
    assert str(error.value).count('"model"') == 2
    loaded.check(make_index(tmp_path / "plain", [2], cells=False).spec, "there")
    assert loaded.fits(replace(loaded.spec, colour=TONE_MAPPED))


def test_the_index_of_another_encoder_is_no_task(tmp_path):
    train, other = (
        Split.of(open_index(make_index(tmp_path / str(grid), LENGTHS, grid=grid).uri), [Query("1", "a cat", "v001")])
        for grid in (2, 3)
    )
    with pytest.raises(SpecError, match="grid: 2 to train on, 3 to validate on"):
        Task.of(train, other, QUICK)


def test_what_cannot_be_built_is_no_task(tmp_path):
    split = Split.of(open_index(make_index(tmp_path / "i", LENGTHS).uri), [Query("1", "a cat", "v001")])
    with pytest.raises(SpecError, match="5 heads do not divide"):
        Task.of(split, split, Settings(architecture=Architecture(heads=5)))


def test_queries_of_other_videos_are_left_out_and_said(tmp_path, caplog):
    searcher = open_index(make_index(tmp_path / "i", LENGTHS).uri)
    split = Split.of(searcher, [Query("1", "a cat", "v001"), Query("2", "a dog", "elsewhere")])
    assert [query.query_id for query in split.queries] == ["1"]
    assert "1 of 2 queries are about videos that are not in the index" in caplog.text
    with pytest.raises(QueryError, match="is about a video in the index"):
        Split.of(searcher, [Query("2", "a dog", "elsewhere")])
