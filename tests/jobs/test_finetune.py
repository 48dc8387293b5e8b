import json

import numpy as np
import pytest
from safetensors.torch import load_file

from jobs import apply_finetuned, evaluate_retrieval, finetune, search_corpus
from qasir.errors import QueryError, SpecError
from qasir.evaluation.query_files import read_queries
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.opening import open_index
from qasir.retrieval.recipe import Recipe
from qasir.training.finetune.fit import finetune as train_here
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.task import Split, Task
from tests.indexes import make_index
from tests.jobs.killing import kill_once_there
from tests.jobs.test_jobs import call

LENGTHS = [3, 1, 6, 2, 4, 2, 5, 3, 2, 2]
QUICK = ("--epochs", "3", "--batch-size", "8", "--lr", "3e-3", "--dropout", "0")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """(folder, options) of two made-up indexes with the packaged model's dimension, and their queries."""
    folder = tmp_path_factory.mktemp("finetune")
    for name, seed in (("train", 0), ("val", 1)):
        make_index(folder / name, LENGTHS, seed=seed, dim=192)
        rows = [
            {
                "query_id": f"{v}-{i}",
                "query": f"a {noun} and a {v}",
                "video_id": f"v{v:03}",
                "start_s": 0,
                "end_s": 2,
                "duration_s": 20,
            }
            for v in range(len(LENGTHS))
            for i, noun in enumerate(("cat", "dog", "car"))
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = (
        "--index", folder / "train", "--queries", folder / "train.jsonl", "--val-index", folder / "val",
        "--val-queries", folder / "val.jsonl",
    )  # fmt: skip
    return folder, options


@pytest.fixture(scope="module")
def trained(material, local_ray):
    """(folder, output, facts) of the job, with the default recipe."""
    folder, options = material
    out = folder / "qasir"
    status, text, facts, error = call(finetune, *options, "--output", out, *QUICK, "--json")
    assert status == 0, error
    return out, text, facts


def train_plain(folder, name, recipe):
    """(output, result) of what the job's options ask for, trained without Ray."""
    train, held_out = (
        Split.of(open_index(str(folder / one)), read_queries(folder / f"{one}.jsonl")) for one in ("train", "val")
    )
    settings = Settings(recipe, Architecture(dropout=0.0), epochs=3, batch_size=8, lr=3e-3)
    return folder / name, train_here(Task.of(train, held_out, settings), folder / name)


@pytest.fixture(scope="module")
def eercf(material):
    return train_plain(material[0], "eercf", Recipe("eercf"))


@pytest.mark.ray
@pytest.mark.slow  # trains on Ray
def test_training_leaves_a_checkpoint(trained):
    out, text, facts = trained
    names = {path.name for path in out.iterdir()}
    assert names == {"finetuned.safetensors", "config.json", "history.json", "curves.svg", "last.pt"}
    history = json.loads((out / "history.json").read_text())
    assert [record["epoch"] for record in history] == [0, 1, 2, 3]
    assert facts["best"]["SumR"] == max(record["SumR"] for record in history[1:])
    assert "zero-shot" in text
    assert "epoch   2 of 3" in text
    assert "left" in text


@pytest.mark.ray
@pytest.mark.slow  # trains on Ray
def test_the_plain_loop_trains_the_same_model(trained, material):
    out, result = train_plain(material[0], "plain", Recipe())
    assert result["best"]["epoch"] == trained[2]["best"]["epoch"]
    on_ray, plain = (load_file(folder / "finetuned.safetensors") for folder in (trained[0], out))
    for name, value in plain.items():  # not to the byte: they may sum with other numbers of threads
        np.testing.assert_allclose(on_ray[name].numpy(), value.numpy(), atol=1e-3, err_msg=name)


@pytest.mark.ray
@pytest.mark.slow  # trains on Ray
def test_training_that_has_ended_stays_as_it_is(trained, material):
    out, _, facts = trained
    before = (out / "finetuned.safetensors").read_bytes()
    status, _, again, _ = call(finetune, *material[1], "--output", out, *QUICK, "--json")
    assert status == 0
    assert again["best"] == facts["best"]
    assert (out / "finetuned.safetensors").read_bytes() == before


@pytest.mark.ray
@pytest.mark.slow  # trains on Ray
def test_other_settings_need_another_folder(trained, material):
    _, _, _, error = call(finetune, *material[1], "--output", trained[0], *QUICK, "--seed", "5")
    assert isinstance(error, SpecError)
    assert "seed: 0 then, 5 now" in str(error)


@pytest.mark.ray
@pytest.mark.slow  # trains on Ray
def test_a_checkpoint_is_evaluated_searched_and_applied(trained, material, tmp_path):
    used(trained[0], trained[2], "attention", material, tmp_path)


def test_a_checkpoint_of_eercf_is_evaluated_searched_and_applied(eercf, material, tmp_path):
    out, facts = eercf
    used(out, facts, "tib", material, tmp_path)


def used(out, facts, aggregation, material, tmp_path):
    folder, _ = material
    args = ("--queries", folder / "val.jsonl", "--json")
    status, _, on_the_fly, error = call(evaluate_retrieval, "--index", folder / "val", "--finetuned", out, *args)
    assert status == 0, error
    assert on_the_fly["metrics"]["SumR"] == pytest.approx(facts["best"]["SumR"], abs=0.01)
    assert on_the_fly["scoring"]["aggregation"] == aggregation
    status, _, applied, error = call(
        apply_finetuned, "--index", folder / "val", "--finetuned", out, "--output", tmp_path / "tuned", "--json"
    )
    assert status == 0, error
    assert applied["applied"] == len(LENGTHS)
    status, _, as_table, _ = call(evaluate_retrieval, "--index", tmp_path / "tuned", *args)
    assert as_table["scoring"] == on_the_fly["scoring"]
    for query in ("a cat", "a dog and a 3", "a car"):
        hits = [
            call(search_corpus, query, "--index", *where, "--json")[2]["hits"]
            for where in ((folder / "val", "--finetuned", out), (tmp_path / "tuned",))
        ]
        np.testing.assert_allclose([h["score"] for h in hits[0]], [h["score"] for h in hits[1]], atol=5e-3)
    two_stage = ("--recall", "video", "--recall-k", "5", "--rerank", "super-image,cell")
    status, _, found, error = call(evaluate_retrieval, "--index", tmp_path / "tuned", *two_stage, *args)
    assert status == 0, error
    assert found["scoring"]["aggregation"] == "coarse-to-fine"


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_one_model(material, local_ray):
    folder, options = material
    out = folder / "two"
    status, _, facts, error = call(finetune, *options, "--output", out, *QUICK, "--workers", "2", "--json")
    assert status == 0, error
    assert facts["epochs"] == 3


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_training_goes_on(trained, material, tmp_path):
    """Killed once an epoch is saved, then run again: the same checkpoint as that of the same seed without a kill."""
    _, options = material
    kill_once_there("jobs.finetune", (*options, "--output", tmp_path, *QUICK), tmp_path / "last.pt")
    status, _, facts, error = call(finetune, *options, "--output", tmp_path, *QUICK, "--json")
    assert status == 0, error
    assert facts["epochs"] == 3
    again, whole = (load_file(folder / "finetuned.safetensors") for folder in (tmp_path, trained[0]))
    for name, value in whole.items():
        np.testing.assert_allclose(again[name].numpy(), value.numpy(), atol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--recipe", "eercf", "--margin", "0.3"), "--margin is of recipe qasir"),
        (("--recipe", "eercf", "--hard-negatives-after", "5"), "--hard-negatives-after is of recipe qasir"),
        (("--recipe", "eercf", "--info-nce-weight", "1"), "--info-nce-weight is of recipe qasir"),
        (("--recipe", "eercf", "--aggregation", "attention"), "--aggregation is of recipe qasir"),
        (("--recipe", "eercf", "--temperature", "0.1"), "--temperature is of recipe qasir"),
        (("--gate-temperature", "0.1"), "--gate-temperature is of recipe eercf"),
        (("--no-pearson",), "--pearson is of recipe eercf"),
        (("--aggregation", "max", "--temperature", "0.1"), "--temperature is of attention"),
        (("--no-temporal", "--heads", "2"), "--heads is of the temporal encoder"),
        (("--no-temporal", "--layers", "2"), "--layers is of the temporal encoder"),
        (("--no-adapters", "--bottleneck", "0.5"), "--bottleneck is of the adapters"),
    ],
)
def test_options_without_use_are_errors(material, tmp_path, args, says):
    status, _, _, error = call(finetune, *material[1], "--output", tmp_path / "out", *args)
    assert status == 1
    assert isinstance(error, SpecError)
    assert says in str(error)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"--recipe": "x"}, SpecError, "recipe 'x': choose one of qasir, eercf"),
        ({"--lr": "0"}, SpecError, "learning rate"),
        ({"--batch-size": "1"}, QueryError, "batch size 1"),
        ({"--heads": "5"}, SpecError, "5 heads do not divide"),
    ],
)
def test_bad_settings_train_nothing(material, tmp_path, change, kind, says):
    _, options = material
    args = [item for pair in change.items() for item in pair]
    status, _, _, error = call(finetune, *options, "--output", tmp_path / "out", *args)
    assert status != 0
    assert isinstance(error, kind)
    assert says in str(error)
    assert not (tmp_path / "out" / "config.json").exists()


def test_queries_of_no_video_in_the_index(material, tmp_path):
    _, options = material
    (tmp_path / "q.jsonl").write_text('{"query_id": "1", "query": "a cat", "video_id": "elsewhere"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    for name, says in (("q.jsonl", "is about a video in the index"), ("empty.jsonl", "no queries")):
        args = list(options)
        args[3] = tmp_path / name
        _, _, _, error = call(finetune, *args, "--output", tmp_path / "out")
        assert isinstance(error, QueryError)
        assert says.split()[-1] in str(error)


def test_indexes_of_two_encoders_do_not_train_together(material, tmp_path):
    _, options = material
    make_index(tmp_path / "other", LENGTHS, dim=192, grid=3)
    args = list(options)
    args[5] = tmp_path / "other"
    _, _, _, error = call(finetune, *args, "--output", tmp_path / "out")
    assert isinstance(error, SpecError)
    assert "grid: 2 to train on, 3 to validate on" in str(error)


def test_a_checkpoint_for_another_encoder_is_refused(eercf, material, tmp_path):
    folder, _ = material
    make_index(tmp_path / "other", LENGTHS, dim=192, grid=3)
    args = ("--index", tmp_path / "other", "--queries", folder / "val.jsonl", "--finetuned", eercf[0])
    _, _, _, error = call(evaluate_retrieval, *args)
    assert isinstance(error, SpecError)
    assert "checkpoint: {" in str(error)
    assert "index:      {" in str(error)
