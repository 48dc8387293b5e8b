"""The commands on published features, of docs/features.md and docs/benchmarks.md, unchanged: on annotation files as
they are released, and made-up features in the files of each publisher."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import evaluate_retrieval, finetune, import_features, run_study, search_corpus
from qasir.evaluation.query_files import read_queries
from qasir.vlm.text_projection import text_projection
from tests.features import write_bigfile, write_hdf5, write_npz
from tests.indexes import unit
from tests.jobs.test_jobs import call

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
JOBS = {
    job.__name__.rpartition(".")[2]: job
    for job in (import_features, evaluate_retrieval, search_corpus, finetune, run_study)
}
NOTED = """python() { printf '%s\\037' "$@" >> calls; printf '\\036' >> calls; }
set -e
"""
"""A shell with a `python` that notes what it is called with, by separators that no argument has."""


def blocks(name, kind="sh"):
    text = (ROOT / "docs" / name).read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


FEATURES_DOC = blocks("features.md")
BY_FEATURES = [block for block in blocks("benchmarks.md") if "_clip." in block]
(STUDY,) = blocks("benchmarks.md", "yaml")


def run(block, paths, *more):
    """The commands of a block by a shell, with these paths for what it exports; the JSON of each job, in turn."""
    exported = re.findall(r"(\w+)=\S+", "\n".join(line for line in block.splitlines() if line.startswith("export")))
    assert set(exported) <= set(paths)
    Path("calls").unlink(missing_ok=True)
    script = NOTED + re.sub(r"^export .*$", "", block, flags=re.MULTILINE)
    environment = {name: str(path) for name, path in paths.items()} | {"PATH": "/usr/bin:/bin"}
    subprocess.run(["sh", "-c", script], env=environment, check=True)
    said = []
    for noted in Path("calls").read_text().split("\x1e")[:-1]:
        path, *args = noted.split("\x1f")[:-1]
        name = Path(path).stem
        args += [part for job, option in more if job == name for part in option.split()]
        status, text, facts, error = call(JOBS[name], *args, "--json")
        assert (status, error) == (0, None), text
        said.append(facts)
    return said


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frames_of(queries, dim, scale=1.0):
    """{video_id: (6, dim)} of the queries' videos."""
    rng = np.random.default_rng(0)
    return {query.video_id: scale * unit(rng.standard_normal((6, dim))) for query in queries}


def test_frames_and_vectors_in_hdf5(here):
    queries = read_queries(DATA / "tvr.jsonl")
    frames = frames_of(queries, 8)
    texts = {query.query_id: frames[query.video_id][2] for query in queries} | {"90200": unit(np.ones(8))}
    paths = {"FEATURES": write_hdf5(here / "f.hdf5", frames), "TEXTS": write_hdf5(here / "t.hdf5", texts)}
    paths["QUERIES"] = DATA / "tvr.jsonl"
    imported, found = run(FEATURES_DOC[0], paths)
    assert (imported["encoded"], found["n_queries"]) == (len(frames), len(queries))
    assert found["metrics"]["R@1"] > 50.0
    assert (here / "tvr.report" / "index.html").exists()
    (searched,) = run(FEATURES_DOC[-1], paths)
    assert searched["query_id"] == "90200"


def test_frames_in_a_bigfile_and_tokens_by_a_papers_list(here):
    release = read_queries(DATA / "charades.txt")
    frames = frames_of(release, 8, scale=3.0)
    listed = {f"{query.video_id}#enc#{i}": query for i, query in enumerate(release)}
    (here / "test.caption.txt").write_text("".join(f"{name} {query.text}\n" for name, query in listed.items()))
    tokens = {name: frames[query.video_id][1:3] for name, query in listed.items()}
    paths = {
        "FEATURES": write_bigfile(here / "f", frames), "TEXTS": write_hdf5(here / "t.hdf5", tokens),
        "QUERIES": here / "test.caption.txt", "RELEASE": DATA / "charades.txt",
    }  # fmt: skip
    imported, found = run(FEATURES_DOC[1], paths)
    assert (imported["encoded"], found["n_queries"], found["metrics"]["R@1"]) == (len(frames), len(release), 100.0)
    assert any(b["n_queries"] for b in found["by_mv"])


def test_an_npz_a_video_and_a_query_with_tokens_to_project(here):
    queries = read_queries(DATA / "qvhighlights.jsonl")
    width, dim = text_projection("qasir-tiny").shape
    rng = np.random.default_rng(1)
    texts = {
        f"qid{query.query_id}": {
            "last_hidden_state": rng.standard_normal((4, width)), "pooler_output": rng.standard_normal(dim),
        }
        for query in queries
    }  # fmt: skip
    paths = {
        "FEATURES": write_npz(here / "f", frames_of(queries, dim, scale=3.0)), "TEXTS": write_npz(here / "t", texts),
        "QUERIES": DATA / "qvhighlights.jsonl", "PROJECTION": "qasir-tiny",
    }  # fmt: skip
    imported, found = run(FEATURES_DOC[2], paths)
    assert (imported["failed"], found["n_queries"]) == (0, len(queries))


@pytest.fixture
def collection(here):
    """As MSC's is laid out, by the paths of the docs: frames of both splits, tokens by `VID#enc#n`, lists."""
    rng = np.random.default_rng(2)
    names = {"train": [f"s01_clip_{i:02}" for i in range(44)], "val": ["s02_clip_00", "s02_clip_01", "s02_clip_02"]}
    frames, tokens = {}, {}
    for split, videos in names.items():
        lines = []
        for name in videos:
            frames[name] = 2 * rng.standard_normal((9, 8)).astype(np.float32)
            for i in (0, 1):
                tokens[f"{name}#enc#{i}"] = frames[name][3 * i + np.arange(2)] + 0.3 * rng.standard_normal((2, 8))
                lines.append(f"{name}#enc#{i} moment {i} of {name}\n")
        path = here / "tvr" / "TextData" / f"tvr{split}.caption.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    (here / "tvr" / "FeatureData").mkdir()
    return {
        "FRAMES": write_hdf5(here / "tvr" / "FeatureData" / "tvr_clip_L14.h5", frames),
        "TEXTS": write_hdf5(here / "tvr" / "TextData" / "tvr_clip_L14.h5", tokens),
        "QUERIES": here / "tvr" / "TextData" / "tvrval.caption.txt",
        "TRAIN": here / "tvr" / "TextData" / "tvrtrain.caption.txt",
    }


def test_the_rows_of_a_table(collection, here):
    imported, *found = run(BY_FEATURES[0], collection)
    assert imported["encoded"] == 47
    assert [one["scoring"]["aggregation"] for one in found] == ["attention", "max", "mean"]
    assert [(one["n_queries"], one["n_videos"]) for one in found] == [(6, 3)] * 3
    assert (here / "tvr_clip.max" / "trec" / "qrels.txt").exists()


def changes(benchmark):
    """(job, options) of a row of the table that says what changes for the other benchmarks."""
    row = re.search(rf"^\| {benchmark} \| `(--[^`]+)` on (.*)$", (ROOT / "docs" / "benchmarks.md").read_text(), re.M)
    return [(job, row[1]) for job in re.findall(r"`(\w+)\.py`", row[2])]


def test_what_changes_for_activitynet_captions(collection, here):
    """Queries' ids have a prefix, and those of frames none."""
    text = collection["QUERIES"].read_text()
    collection["QUERIES"].write_text("".join(f"v_{line}\n" for line in text.splitlines()))
    texts = {f"v_{line.split()[0]}": np.ones((2, 8)) + i for i, line in enumerate(text.splitlines())}
    collection["TEXTS"] = write_hdf5(here / "v.h5", texts)
    assert [job for job, _ in changes("ActivityNet Captions")] == ["evaluate_retrieval", "finetune"]
    _, *found = run(BY_FEATURES[0], collection, *changes("ActivityNet Captions"))
    assert [one["n_queries"] for one in found] == [6] * 3


def test_what_changes_for_qvhighlights(collection, here):
    """Of 2,816 columns those of CLIP are used."""
    videos = [f"s02_clip_0{i}" for i in range(3)]
    rng = np.random.default_rng(3)
    collection["FRAMES"] = write_hdf5(here / "q.h5", {name: rng.standard_normal((4, 2816)) for name in videos})
    asked = [line.split()[0] for line in collection["QUERIES"].read_text().splitlines()]
    collection["TEXTS"] = write_hdf5(here / "t.h5", {name: rng.standard_normal((3, 512)) for name in asked})
    imported, *found = run(BY_FEATURES[0], collection, *changes("QVHighlights"))
    assert imported["spec"]["embedding_dim"] == 512
    assert [one["n_queries"] for one in found] == [6] * 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fine_tuned_row_and_the_study_of_all(local_ray, collection, here):
    run(BY_FEATURES[0], collection)
    trained, tuned = run(BY_FEATURES[1], collection)
    assert trained["best"]["epoch"] >= 0
    assert len((here / "tvr_held_out.txt").read_text().split()) == 2
    assert len((here / "tvr_learnt.caption.txt").read_text().splitlines()) == 2 * 42
    assert tuned["n_videos"] == 3
    (here / "tvr_clip.yaml").write_text(STUDY)
    (facts,) = run(BY_FEATURES[2], collection)
    rows = pq.read_table(facts["results"]).to_pylist()
    assert {row["reason"] for row in rows} == {None}
    assert {(row["kind"], row["n_videos"]) for row in rows} >= {("zero-shot", 3), ("sparse", 3), ("fine-tuned", 3)}
    shutil.rmtree(here / "tvr_clip.study")


def test_every_block_is_run():
    assert (len(FEATURES_DOC), len(BY_FEATURES)) == (4, 3)
    assert "tvr_clip.yaml" in STUDY
