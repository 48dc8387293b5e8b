"""`encode_corpus.py --estimate` as people run it: in children of the job, with a real model, without Ray."""

import json
import os

import pytest

from jobs import encode_corpus
from qasir.video.container import Video
from tests.conftest import ray_is_up
from tests.jobs.test_jobs import call
from tests.videos import write_video


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_what_encoding_would_take_is_printed_and_nothing_written(demo, demo_index, tmp_path):
    uri = tmp_path / "index"
    args = ("--videos", demo / "videos", "--index", uri, "--estimate", "--json")
    was_up = ray_is_up()
    status, text, facts, _ = call(encode_corpus, *args)
    assert status == 0
    assert ray_is_up() == was_up
    assert list(tmp_path.iterdir()) == []
    table = demo_index.table("super_images")
    assert facts["choices"][0]["super_images"]["value"] == table.count_rows()
    assert facts["sample"]["decoded"] == facts["sample"]["headers"] == 4
    assert [each["choice"] for each in facts["choices"]] == ["as asked", "N = 2", "N = 4", "keyframes", "half the rate"]
    thumbnails = table.to_table(columns=["thumbnail"])["thumbnail"].to_pylist()
    predicted = facts["choices"][0]["tables"][0]["super_images"]
    assert predicted["thumbnail"] == pytest.approx(sum(map(len, thumbnails)), rel=0.05)
    assert f"{uri}: 4 new, 0 changed, 0 failed before: would be encoded; 0 unchanged" in text
    for line in (
        "sample: all 4 videos opened",
        "video ",
        "encodings ",
        "time ",
        "bound ",
        "size ",
        "as asked ",
        "N = 2 ",
    ):
        assert any(row.startswith(line) for row in text.splitlines()), line
    for each in facts["choices"]:
        seconds = each["seconds"]
        assert 0 < each["startup_s"] < seconds["value"]
        assert seconds["low"] < seconds["value"] < seconds["high"]


def test_an_index_that_is_up_to_date_says_so(demo, demo_index):
    status, text, facts, _ = call(
        encode_corpus, "--videos", demo / "videos", "--index", demo_index.uri, "--estimate", "--json"
    )
    assert (status, facts["up_to_date"], facts["choices"]) == (0, True, [])
    assert "nothing is to be encoded: the index is up to date" in text


def test_a_corpus_of_broken_files_is_told_of(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_text("no video")
    status, text, facts, _ = call(
        encode_corpus, "--videos", tmp_path, "--index", tmp_path / "index", "--estimate", "--json"
    )
    assert (status, facts["choices"], facts["failing"]["value"]) == (0, [], 3)
    assert facts["sample"]["failures_by_kind"] == {"not_a_video": 3}
    assert "none of the videos looked at can be opened" in text


def test_an_empty_corpus_is_an_error(tmp_path):
    *_, error = call(encode_corpus, "--videos", tmp_path, "--index", tmp_path / "index", "--estimate")
    assert "no videos in" in str(error)
    assert os.listdir(tmp_path) == []


def test_what_an_estimate_has_no_use_for_is_refused(tmp_path):
    write_video(tmp_path / "a.mp4", 5)
    status, *_ = call(encode_corpus, "--videos", tmp_path, "--index", tmp_path / "i", "--estimate", "--max-failed", 0.5)
    assert status == 2


@pytest.mark.slow
def test_several_indexes_of_a_file(demo, demo_index, tmp_path):
    config = tmp_path / "corpus.yaml"
    text = f"videos: {demo / 'videos'}\nindexes:\n  - uri: {demo_index.uri}\n    model: qasir-tiny\n"
    config.write_text(text + f"  - uri: {tmp_path / 'other'}\n    model: qasir-tiny\n    grid: 2\n    cells: false\n")
    status, text, facts, _ = call(encode_corpus, "--config", config, "--estimate", "--json")
    assert status == 0
    assert [each["new"] for each in facts["indexes"]] == [0, 4]
    tables = facts["choices"][0]["tables"]
    assert sum(tables[0]["super_images"].values()) == 0 < sum(tables[1]["super_images"].values())
    assert json.dumps(facts)


def test_a_file_that_does_not_say_how_long_it_is_counts_by_its_packets(tmp_path):
    path = write_video(tmp_path / "videos" / "a.mkv", 40, container_options={"live": "1"})
    with Video(str(path)) as video:
        assert video.claimed_duration_s is None
    status, text, facts, _ = call(
        encode_corpus, "--videos", path.parent, "--index", tmp_path / "index", "--estimate", "--json"
    )
    assert (status, facts["sample"]["decoded"], facts["sample"]["without_length"]) == (0, 1, 0)
    assert facts["choices"][0]["super_images"]["value"] >= 1
    assert "can be opened" not in text


def test_a_gpu_that_must_decode_must_be_there(tmp_path):
    write_video(tmp_path / "a.mp4", 5)
    *_, error = call(encode_corpus, "--videos", tmp_path, "--index", tmp_path / "i", "--estimate", "--decoder", "cuda")
    assert str(error) == "--decoder cuda: this machine has no GPU: choose auto or cpu"
