import json

import numpy as np
import pytest

from jobs import encode_corpus, train_mof
from qasir.errors import QasirError, QueryError, SpecError
from qasir.vlm.model import Vlm
from qasir.vlm.weights import resolve
from tests.jobs.test_jobs import call

QUICK = (
    "--frames", "2", "--dense-frames", "3", "--epochs", "2", "--batch-size", "2", "--lr", "1e-3",
)  # fmt: skip


@pytest.fixture(scope="module")
def options(demo):
    return (
        "--videos", demo / "videos", "--queries", demo / "queries.jsonl", "--val-videos", demo / "videos",
        "--val-queries", demo / "queries.jsonl",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(options, local_ray, tmp_path_factory):
    out = tmp_path_factory.mktemp("mof") / "out"
    status, text, facts, error = call(
        train_mof, *options, "--output", out, *QUICK, "--frame-lr", "0.05", "--grid", "2", "--json"
    )
    assert status == 0, error
    return out, text, facts


@pytest.mark.ray
def test_training_tells_of_its_epochs(trained):
    out, text, facts = trained
    history = json.loads((out / "history.json").read_text())
    assert [record["epoch"] for record in history] == [0, 1, 2]
    assert history[2]["displacement"] > history[1]["displacement"] > 0.01
    assert facts["peak_mib"] > 0
    assert "before training" in text
    assert "epoch   1 of 2" in text
    assert "frames moved" in text
    assert f"--pretrained {out / 'model.safetensors'}" in text


@pytest.mark.slow
@pytest.mark.ray
def test_the_result_is_an_ordinary_checkpoint(trained, demo, tmp_path):
    weights = trained[0] / "model.safetensors"
    before, after = Vlm(resolve("qasir-tiny"), device="cpu"), Vlm(resolve("qasir-tiny", str(weights)), device="cpu")
    assert not np.allclose(before.encode_texts(["a cat"]), after.encode_texts(["a cat"]), atol=1e-3)
    status, _, facts, error = call(
        encode_corpus, "--videos", demo / "videos", "--index", tmp_path / "i", "--pretrained", weights, "--json"
    )
    assert (status, facts["encoded"]) == (0, 4), error


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--frames", "4", "--dense-frames", "3"), "4 frames of 3 dense ones"),
        (("--method", "x"), "method 'x'"),
        (("--pooling", "x"), "pooling 'x'"),
        (("--epochs", "0"), "epochs"),
        (("--fps", "0"), "fps"),
        (("--method", "plain", "--frame-lr", "0.05"), "--frame-lr is of learned frames"),
        (("--method", "plain", "--inner-lr", "1"), "--inner-lr is of learned frames"),
        (("--method", "dense", "--frame-steps-per-epoch", "1"), "--frame-steps-per-epoch is of learned frames"),
        (("--method", "dense", "--clamp"), "--clamp is of learned frames"),
        (("--frame-steps-per-epoch", "0", "--clamp"), "--clamp is of meta steps"),
        (("--temperature", "0.1"), "--temperature is of attention"),
    ],
)
def test_bad_settings(options, tmp_path, change, says):
    status, _, _, error = call(train_mof, *options, "--output", tmp_path / "out", *change)
    assert status == 1
    assert isinstance(error, SpecError)
    assert says in str(error)


@pytest.mark.ray
def test_other_settings_need_another_folder(trained, options):
    _, _, _, error = call(train_mof, *options, "--output", trained[0], *QUICK, "--frame-lr", "0.05", "--seed", "5")
    assert isinstance(error, SpecError)
    assert "seed: 0 then, 5 now" in str(error)


@pytest.mark.ray
def test_queries_of_other_videos(options, tmp_path, local_ray):
    (tmp_path / "q.jsonl").write_text('{"query_id": "1", "query": "a cat", "video_id": "elsewhere"}\n')
    args = list(options)
    args[3] = tmp_path / "q.jsonl"
    _, _, _, error = call(train_mof, *args, "--output", tmp_path / "out", *QUICK)
    assert isinstance(error, QueryError)


@pytest.mark.ray
def test_a_checkpoint_of_another_model_is_refused(options, trained, tmp_path):
    args = ("--model", "ViT-S-32-alt", "--pretrained", trained[0] / "model.safetensors")
    _, _, _, error = call(train_mof, *options, "--output", tmp_path, *args)
    assert isinstance(error, QasirError)
    assert "cannot load 'ViT-S-32-alt'" in str(error)
