import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from jobs import encode_corpus, train_mof
from qasir.errors import QasirError, QueryError, SpecError
from qasir.evaluation.query_files import read_queries
from qasir.vlm.model import Vlm, resolve
from tests.jobs.killing import kill_once_there
from tests.jobs.test_jobs import call
from tests.videos import write_video

QUICK = (
    "--frames",
    "2",
    "--dense-frames",
    "3",
    "--epochs",
    "2",
    "--batch-size",
    "2",
    "--lr",
    "1e-3",
    "--frame-lr",
    "0.05",
)


@pytest.fixture(scope="module")
def options(demo):
    return (
        "--videos", demo / "videos", "--queries", demo / "queries.jsonl", "--val-videos", demo / "videos",
        "--val-queries", demo / "queries.jsonl",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(options, local_ray, tmp_path_factory):
    out = tmp_path_factory.mktemp("mof") / "out"
    status, text, facts, error = call(train_mof, *options, "--output", out, *QUICK, "--json")
    assert status == 0, error
    return out, text, facts


def test_the_dense_loss_falls(options, local_ray, tmp_path):
    args = ("--output", tmp_path / "out", *QUICK, "--epochs", "6", "--grid", "2", "--batch-size", "4")
    status, *_, error = call(train_mof, *options, *args)
    assert status == 0, error
    losses = [record["dense_loss"] for record in json.loads((tmp_path / "out" / "history.json").read_text())[1:]]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])


def test_the_frames_move(trained):
    out, text, facts = trained
    history = json.loads((out / "history.json").read_text())
    assert [record["epoch"] for record in history] == [0, 1, 2]
    assert history[2]["displacement"] > history[1]["displacement"] > 0.01
    assert facts["peak_mib"] > 0
    assert "epoch   1 of 2" in text
    assert "frames moved" in text


def test_the_result_is_an_ordinary_checkpoint(trained, demo, tmp_path, local_ray):
    out, _, facts = trained
    weights = out / "model.safetensors"
    before, after = Vlm(resolve("qasir-tiny"), device="cpu"), Vlm(resolve("qasir-tiny", str(weights)), device="cpu")
    assert not np.allclose(before.encode_texts(["a cat"]), after.encode_texts(["a cat"]), atol=1e-3)
    status, _, facts, error = call(
        encode_corpus, "--videos", demo / "videos", "--index", tmp_path / "i", "--pretrained", weights, "--json"
    )
    assert (status, facts["encoded"]) == (0, 4), error


def test_there_are_pictures_of_what_frames_became(trained):
    out, *_ = trained
    pictures = sorted(out.glob("frames_*.png"))
    assert len(pictures) == 3
    assert Image.open(pictures[0]).size[0] > 2 * 192


def test_a_training_that_has_ended_stays_as_it_is(trained, options):
    out, _, facts = trained
    before = (out / "model.safetensors").read_bytes()
    status, _, again, _ = call(train_mof, *options, "--output", out, *QUICK, "--json")
    assert status == 0
    assert again["best"] == facts["best"]
    assert (out / "model.safetensors").read_bytes() == before


def test_a_killed_training_goes_on(trained, options, tmp_path):
    kill_once_there("jobs.train_mof", (*options, "--output", tmp_path, *QUICK), tmp_path / "last.pt")
    status, _, facts, error = call(train_mof, *options, "--output", tmp_path, *QUICK, "--json")
    assert status == 0, error
    assert facts["epochs"] == 2
    assert facts["best"]["SumR"] == trained[2]["best"]["SumR"]
    # Not to the byte: the killed process may have summed with another number of threads than this one.
    again, whole = (load_file(folder / "model.safetensors") for folder in (tmp_path, trained[0]))
    for name, value in whole.items():
        np.testing.assert_allclose(again[name].numpy(), value.numpy(), atol=1e-3, err_msg=name)


@pytest.mark.parametrize("method", ["plain", "dense"])
def test_what_mof_is_compared_with(options, method, tmp_path, local_ray):
    args = ("--method", method, "--grid", "2", "--pooling", "attention")
    status, _, facts, error = call(train_mof, *options, "--output", tmp_path / "out", *QUICK, *args, "--json")
    assert status == 0, error
    assert "dense_loss" not in facts["best"]
    assert not (tmp_path / "out" / "frames.lance").exists()


def test_frames_that_are_clamped_are_colours(options, tmp_path, local_ray):
    from qasir.training.mof.frame_table import FrameTable, PixelScale

    args = ("--clamp", "--grid", "2", "--epochs", "1")
    status, *_ = call(train_mof, *options, "--output", tmp_path / "out", *QUICK, *args)
    assert status == 0
    table = FrameTable(str(tmp_path / "out" / "frames.lance"))
    frames = table.load(table.video_ids).frames
    scale = PixelScale(*Vlm(resolve("qasir-tiny"), device="cpu").pixel_scale)
    np.testing.assert_allclose(scale.clamp(frames), frames, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--frames", "4", "--dense-frames", "3"), "4 frames of 3 dense ones"),
        (("--method", "x"), "method 'x'"),
        (("--layers", "x"), "layers 'x'"),
        (("--pooling", "x"), "pooling 'x'"),
        (("--epochs", "0"), "epochs"),
        (("--fps", "0"), "fps"),
    ],
)
def test_bad_settings(options, tmp_path, change, says):
    _, _, _, error = call(train_mof, *options, "--output", tmp_path / "out", *change)
    assert isinstance(error, SpecError)
    assert says in str(error)


def test_other_settings_need_another_folder(trained, options):
    _, _, _, error = call(train_mof, *options, "--output", trained[0], *QUICK, "--seed", "5")
    assert isinstance(error, SpecError)
    assert "seed: 0 then, 5 now" in str(error)


def test_short_videos_broken_ones_and_those_nobody_asks_for(demo, tmp_path, local_ray, caplog):
    """One frame only (it is taken several times), no video at all, and videos without queries."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in sorted((demo / "videos").glob("*.mp4")):
        (videos / path.name).symlink_to(path)
    write_video(videos / "short.mp4", n_frames=1)
    write_video(videos / "unasked.mp4", n_frames=30)
    (videos / "broken.mp4").write_bytes(b"nothing")
    queries = tmp_path / "queries.jsonl"
    extra = {
        "query_id": "s",
        "query": "a flash",
        "video_id": "short",
        "start_s": None,
        "end_s": None,
        "duration_s": None,
    }
    queries.write_text((demo / "queries.jsonl").read_text() + json.dumps(extra) + "\n")
    n_asked = len({query.video_id for query in read_queries(queries)})
    args = (
        "--videos",
        videos,
        "--queries",
        queries,
        "--val-videos",
        demo / "videos",
        "--val-queries",
        demo / "queries.jsonl",
    )
    status, _, _, error = call(train_mof, *args, "--output", tmp_path / "out", *QUICK, "--epochs", "1")
    assert status == 0, error
    assert n_asked == 5
    assert "1 of 7 videos cannot be read and are left out: broken" in caplog.text
    assert "1 train videos have no query" in caplog.text


def test_queries_of_other_videos(options, tmp_path, local_ray):
    (tmp_path / "q.jsonl").write_text('{"query_id": "1", "query": "a cat", "video_id": "elsewhere"}\n')
    args = list(options)
    args[3] = tmp_path / "q.jsonl"
    _, _, _, error = call(train_mof, *args, "--output", tmp_path / "out", *QUICK)
    assert isinstance(error, QueryError)


def test_a_checkpoint_of_another_model_is_refused(options, trained, tmp_path):
    _, _, _, error = call(
        train_mof,
        *options,
        "--output",
        tmp_path,
        "--model",
        "ViT-S-32-alt",
        "--pretrained",
        trained[0] / "model.safetensors",
    )
    assert isinstance(error, QasirError)
    assert "cannot load 'ViT-S-32-alt'" in str(error)
