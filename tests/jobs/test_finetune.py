import json

import numpy as np
import pytest

from jobs import apply_finetuned, evaluate_retrieval, finetune, search_corpus
from qasir.errors import QueryError, SpecError
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
    folder, options = material
    results = {}
    for recipe in ("qasir", "eercf"):
        out = folder / recipe
        status, text, facts, error = call(finetune, *options, "--recipe", recipe, "--output", out, *QUICK, "--json")
        assert status == 0, error
        results[recipe] = (out, text, facts)
    return results


@pytest.mark.parametrize("recipe", ["qasir", "eercf"])
def test_training_leaves_a_checkpoint(trained, recipe):
    out, text, facts = trained[recipe]
    names = {path.name for path in out.iterdir()}
    assert names == {"finetuned.safetensors", "config.json", "history.json", "curves.svg", "last.pt"}
    history = json.loads((out / "history.json").read_text())
    assert [record["epoch"] for record in history] == [0, 1, 2, 3]
    assert {"SumR", "R@1", "loss", "seconds"} <= set(history[1])
    assert history[3]["loss"] < history[1]["loss"]
    assert facts["best"]["SumR"] == max(record["SumR"] for record in history[1:])
    assert "zero-shot" in text
    assert "epoch   2 of 3" in text
    assert "left" in text


def test_training_that_has_ended_stays_as_it_is(trained, material):
    out, _, facts = trained["qasir"]
    before = (out / "finetuned.safetensors").read_bytes()
    status, _, again, _ = call(finetune, *material[1], "--output", out, *QUICK, "--json")
    assert status == 0
    assert again["best"] == facts["best"]
    assert (out / "finetuned.safetensors").read_bytes() == before


@pytest.mark.parametrize("recipe", ["qasir", "eercf"])
def test_a_checkpoint_is_evaluated_searched_and_applied(trained, material, recipe, tmp_path):
    folder, _ = material
    out, _, facts = trained[recipe]
    args = ("--queries", folder / "val.jsonl", "--json")
    status, _, on_the_fly, error = call(evaluate_retrieval, "--index", folder / "val", "--finetuned", out, *args)
    assert status == 0, error
    assert on_the_fly["metrics"]["SumR"] == pytest.approx(facts["best"]["SumR"], abs=0.01)
    expected = "tib" if recipe == "eercf" else "attention"
    assert on_the_fly["scoring"]["aggregation"] == expected
    status, _, applied, error = call(
        apply_finetuned, "--index", folder / "val", "--finetuned", out, "--output", tmp_path / "tuned", "--json"
    )
    assert status == 0, error
    assert applied["applied"] == len(LENGTHS)
    status, _, as_table, _ = call(evaluate_retrieval, "--index", tmp_path / "tuned", *args)
    assert as_table["metrics"]["SumR"] == pytest.approx(on_the_fly["metrics"]["SumR"], abs=15)
    hits = [
        call(search_corpus, "a cat", "--index", *where, "--json")[2]["hits"]
        for where in ((folder / "val", "--finetuned", out), (tmp_path / "tuned",))
    ]
    np.testing.assert_allclose([h["score"] for h in hits[0]], [h["score"] for h in hits[1]], atol=5e-3)
    two_stage = ("--recall", "video", "--recall-k", "5", "--rerank", "super-image,cell")
    status, _, found, error = call(evaluate_retrieval, "--index", tmp_path / "tuned", *two_stage, *args)
    assert status == 0, error
    assert found["scoring"]["aggregation"] == "coarse-to-fine"


def test_two_workers_train_one_model(material, local_ray):
    folder, options = material
    out = folder / "two"
    status, _, facts, error = call(finetune, *options, "--output", out, *QUICK, "--workers", "2", "--json")
    assert status == 0, error
    assert facts["epochs"] == 3


def test_a_killed_training_goes_on(trained, material, tmp_path):
    """Killed once an epoch is saved, then run again: the same checkpoint as that of the same seed without a kill."""
    _, options = material
    kill_once_there("jobs.finetune", (*options, "--output", tmp_path, *QUICK), tmp_path / "last.pt")
    status, _, facts, error = call(finetune, *options, "--output", tmp_path, *QUICK, "--json")
    assert status == 0, error
    assert facts["epochs"] == 3
    whole = trained["qasir"][0] / "finetuned.safetensors"
    assert (tmp_path / "finetuned.safetensors").read_bytes() == whole.read_bytes()


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


def test_a_checkpoint_for_another_encoder_is_refused(trained, material, tmp_path):
    folder, _ = material
    make_index(tmp_path / "other", LENGTHS, dim=192, grid=3)
    args = ("--index", tmp_path / "other", "--queries", folder / "val.jsonl", "--finetuned", trained["qasir"][0])
    _, _, _, error = call(evaluate_retrieval, *args)
    assert isinstance(error, SpecError)
    assert "checkpoint: {" in str(error)
    assert "index:      {" in str(error)
