"""Every command of docs/benchmarks.md, on annotation files as they are released and stand-in videos."""

import json
import os
import re
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from jobs import encode_corpus, evaluate_retrieval, finetune
from qasir.encoding.encode import encode
from qasir.encoding.options import EncoderOptions
from qasir.evaluation.query_files import read_queries
from tests.jobs.test_jobs import call
from tests.videos import write_video

DOC = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
JOBS = {"encode_corpus": encode_corpus, "evaluate_retrieval": evaluate_retrieval, "finetune": finetune}
VLM = "--model qasir-tiny --grid 2 --fps 1"
DATA = Path(__file__).parents[1] / "data"
LONG = {
    "tvr": "tvr.jsonl", "activitynet": "activitynet.json", "charades": "charades.txt",
    "qvhighlights": "qvhighlights.jsonl",
}  # fmt: skip
MADE_UP = {
    "msrvtt": "key,vid_key,video_id,sentence\nret0,msr0,video0,a man sings\nret1,msr1,video1,a dog runs\n",
    "msvd": "# VideoID Start End\nab_cd_1_9 a man is singing\nab_cd_1_9 someone sings\nxyz_3_7 a dog runs\n",
    "didemo": json.dumps(
        [
            {"annotation_id": i, "video": f"{video}.mov", "description": text, "times": [[0, 0], [0, 0], [1, 1]]}
            for i, (video, text) in enumerate([("one", "a cat sits"), ("one", "it leaves"), ("two", "rain")])
        ]
    ),
}


def block(name):
    return next(text for text in BLOCKS if f"--index {name}.index" in text)


def encode_here(*args):
    """What `call(encode_corpus, ...)` says, by the plain loop and not on Ray."""
    asked = dict(zip(args[:-1:2], args[1::2], strict=True))
    assert args[-1] == "--json"
    model = EncoderOptions(model=asked.pop("--model"), grid=int(asked.pop("--grid")), fps=float(asked.pop("--fps")))
    summary = encode(asked.pop("--videos"), asked.pop("--index"), model=model, isolate=False)
    assert not asked
    return 0, "", asdict(summary), None


def run(text, paths, *, on_ray=False):
    """Run a block's commands, with `paths` for what it exports; the JSON of each."""
    exported = dict(re.findall(r"(\w+)=(\S+)", text.splitlines()[0])) if text.startswith("export") else {}
    assert set(exported) <= set(paths)
    said = []
    for line in text.splitlines():
        words = shlex.split(line)
        if words[:1] != ["python"]:
            continue
        line = re.sub(r"\$(\w+)", lambda match: {**paths, "VLM": VLM}[match[1]], line)
        _, script, *args = shlex.split(line)
        job = JOBS[Path(script).stem]
        plainly = job is encode_corpus and not on_ray
        status, _, facts, error = encode_here(*args, "--json") if plainly else call(job, *args, "--json")
        assert status == 0, error
        said.append(facts)
    return said


def stand_ins(folder, queries, n_videos):
    """Videos for the first few ids of a query file, and how many queries are about them."""
    ids = list(dict.fromkeys(query.video_id for query in queries))[:n_videos]
    for i, video_id in enumerate(ids):
        write_video(folder / f"{video_id}.mp4", 40 + 25 * i)
    return sum(query.video_id in ids for query in queries)


@pytest.mark.parametrize("name", LONG)
def test_long_videos(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = DATA / LONG[name]
    n_asked = stand_ins(tmp_path / "videos", read_queries(path), 3)
    encoded, found = run(block(name), {"VIDEOS": str(tmp_path / "videos"), "QUERIES": str(path)})
    assert (encoded["encoded"], encoded["failed"]) == (3, 0)
    assert (found["n_queries"], found["n_videos"]) == (n_asked, 3)
    assert found["skipped"]["not_in_index"] == len(read_queries(path)) - n_asked
    assert any(b["n_queries"] for b in found["by_mv"])
    assert (tmp_path / f"{name}.report" / "index.html").is_file()


@pytest.mark.slow
def test_a_benchmark_is_encoded_by_the_job_as_documented(local_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_ins(tmp_path / "videos", read_queries(DATA / LONG["charades"]), 2)
    paths = {"VIDEOS": str(tmp_path / "videos"), "QUERIES": str(DATA / LONG["charades"])}
    encoded, found = run(block("charades"), paths, on_ray=True)
    assert (encoded["encoded"], found["n_videos"]) == (2, 2)


@pytest.mark.parametrize("name", MADE_UP)
def test_trimmed_videos(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("q.csv" if name == "msrvtt" else "q.json" if name == "didemo" else "q.txt")
    path.write_text(MADE_UP[name])
    stand_ins(tmp_path / "videos", read_queries(path, name), 2)
    _, found, back = run(block(name), {"VIDEOS": str(tmp_path / "videos"), "QUERIES": str(path)})
    assert found["n_queries"] == {"msrvtt": 2, "msvd": 3, "didemo": 2}[name]
    assert back["direction"] == "video-to-text"
    assert {"MedR", "MeanR"} <= set(back["metrics"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fine_tuned(local_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = DATA / LONG["tvr"]
    stand_ins(tmp_path / "videos", read_queries(path), 6)
    run(block("tvr"), {"VIDEOS": str(tmp_path / "videos"), "QUERIES": str(path)})
    folders = dict.fromkeys(("TRAIN", "VAL"), str(tmp_path / "videos"))
    files = dict.fromkeys(("QUERIES", "TRAIN_QUERIES", "VAL_QUERIES"), str(path))
    said = run(block("tvr_train"), {**folders, **files})
    assert said[-1]["n_videos"] == 6
    assert os.path.isdir("tvr.checkpoint")


def test_every_block_is_run():
    by_features = sum("_clip." in block for block in BLOCKS)  # which test_features_docs.py runs
    assert len(BLOCKS) == 1 + len(LONG) + 1 + len(MADE_UP) + by_features
