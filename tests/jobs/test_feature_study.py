"""A study over features: what it says is what the jobs say one by one."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import evaluate_retrieval, import_features, run_study
from jobs.finetune import Data
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.query_features import QueryFeatureOptions
from qasir.retrieval.recipe import Recipe
from qasir.study.page import render_study
from qasir.study.results import read_tables
from qasir.training.finetune.fit import finetune
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.task import Task
from tests.features import write_hdf5, write_npy, write_npz
from tests.indexes import unit
from tests.jobs.test_jobs import call

N_FRAMES = 12
CONFIG = """\
features: clip.h5
queries: test.jsonl
query_features: texts
query_key: tokens
video_ids: test.txt
validation: {queries: val.jsonl, video_ids: val.txt}
encoders:
  - {model: CLIP ViT-L/14, fps: 2, query_pooling: [last, mean]}
  - {model: CLIP ViT-L/14, fps: 2, query_pooling: mean, grid: 2, pool: mean}
  - {model: other, features: other, query_features: other.h5, fps: 2}
  - {model: CLIP ViT-L/14, query_pooling: max}
scorings:
  - aggregation: [attention, mean]
  - {aggregation: "sparse:2"}
finetuned: [checkpoint]
hybrids:
  - {hybrid: fusion, large: {model: CLIP ViT-L/14, grid: 1, fps: 2, query_pooling: mean}, small: {model: other}}
two_stage:
  - {recall_k: 2, rerank: super-image}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos of both splits in one file, as they are published; words are near a frame, tokens around their mean."""
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(4)
    frames = {f"v{i:02}": unit(rng.standard_normal((N_FRAMES, 8))) for i in range(12)}
    other = {name: unit(rows[:, :6] + 0.3 * rng.standard_normal((N_FRAMES, 6))) for name, rows in frames.items()}
    queries, tokens, texts = [], {}, {}
    for name, rows in frames.items():
        for k in (2, 9):
            query_id = f"{name}-{k}"
            near = rows[k] + 0.3 * rng.standard_normal(8)
            tokens[f"qid{query_id}"] = {"tokens": near + 0.2 * rng.standard_normal((5, 8))}
            texts[query_id] = unit(other[name][k] + 0.3 * rng.standard_normal(6))
            moment = {"start_s": k / 2, "end_s": k / 2 + 1, "duration_s": N_FRAMES / 2}
            queries.append({"query_id": query_id, "query": f"moment {query_id}", "video_id": name, **moment})
    write_hdf5(folder / "clip.h5", frames)
    write_npy(folder / "other", other)
    write_npz(folder / "texts", tokens)
    write_hdf5(folder / "other.h5", texts)
    for split, names in (("val", list(frames)[:5]), ("test", list(frames)[5:])):
        (folder / f"{split}.txt").write_text("\n".join(names))
        asked = [query for query in queries if query["video_id"] in names]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(query) + "\n" for query in asked))
    return folder


@pytest.fixture(scope="module")
def index(folder):
    """The grid 1 of clip.h5, by the job."""
    args = ("--features", folder / "clip.h5", "--index", folder / "by_hand", "--model", "CLIP ViT-L/14", "--fps", 2)
    assert call(import_features, *args)[0] == 0
    return folder / "by_hand"


@pytest.fixture(scope="module")
def checkpoint(folder, index):
    queries = folder / "val.jsonl"
    given = QueryFeatureOptions(folder / "texts", "tokens", "mean")
    splits = Data(str(index), queries, str(index), queries, folder / "checkpoint").splits(given)
    settings = Settings(Recipe(), Architecture(dropout=0.0), epochs=1, batch_size=4, lr=1e-3)
    finetune(Task.of(*splits, settings), folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def studied(folder, checkpoint):
    (folder / "study.yaml").write_text(CONFIG)
    args = ("--config", folder / "study.yaml", "--output", folder / "out", "--json")
    return call(run_study, *args), pq.read_table(folder / "out" / "results.parquet").to_pylist()


def test_every_kind_of_setting_is_had_of_features(studied, folder):
    (status, _, facts, error), rows = studied
    assert status == 0, error
    failed = [row for row in rows if row["status"] == "failed"]
    assert {row["reason"] for row in failed} == {
        "files of features do not say when their frames were: give either --fps or --durations, from where the "
        "features are published"
    }
    assert facts["failed"] == len(failed) == 4
    done = [row for row in rows if row["status"] == "done"]
    counts = {kind: sum(row["kind"] == kind for row in done) for kind in {row["kind"] for row in done}}
    assert counts == {"zero-shot": 8, "sparse": 3, "two-stage": 4, "fine-tuned": 2, "hybrid": 1}
    assert len({row["label"] for row in done}) == len(done)
    assert len({row["setting_id"] for row in rows}) == len(rows)
    assert {row["n_videos"] for row in done} == {7}
    assert {row["n_queries"] for row in done} == {14}
    assert any(b["n_queries"] for b in done[0]["by_mv"])
    for row in done:
        assert row["SumR_low"] <= row["SumR"] <= row["SumR_high"]
        assert [row[name] for name in ("gflops_per_video", "model_seconds_per_video", "parameters")] == [None] * 3
        assert row["gflops_per_query"] > 0
    indexes = [path.name for path in (folder / "out" / "indexes").iterdir()]
    assert len(indexes) == 3, "one for all poolings of queries, and for both splits of one file"


def test_a_setting_is_what_the_jobs_say(studied, folder, index):
    _, rows = studied
    args = ("--index", index, "--queries", folder / "test.jsonl", "--video-ids", folder / "test.txt")
    given = ("--query-features", folder / "texts", "--query-key", "tokens", "--query-pooling", "last")
    for aggregation in ("attention", "mean"):
        row = next(
            row
            for row in rows
            if (row["grid"], row["aggregation"], row["query_features"]) == (1, aggregation, "tokens, last")
        )
        fixed = ("--temperature", row["temperature"]) if row["temperature"] else ()
        found = call(evaluate_retrieval, *args, *given, "--aggregation", aggregation, *fixed, "--json")[2]
        assert {name: row[name] for name in found["metrics"]} == pytest.approx(found["metrics"])


def test_the_page_says_that_costs_are_rows(studied, folder):
    page = (folder / "out" / "index.html").read_text()
    assert page == render_study(read_tables(folder / "out"), title=f"Study of {folder.name}/test.jsonl", tuned=True)
    assert "features of frames that others computed: no video was decoded here" in page
    assert "rows a video stand for it" in page
    assert "features of CLIP ViT-L/14 (8 dimensions) instead of other (6) change SumR" in page
    assert "N = 2 saves 4.0 times the encodings of N = 1" in page


def test_a_second_run_does_nothing_again_and_changed_features_are_seen(studied, folder):
    (_, _, first, _), _ = studied
    args = ("--config", folder / "study.yaml", "--output", folder / "out", "--json")
    assert call(run_study, *args)[1].count(", as before") == first["settings"] - first["failed"]
    path = next((folder / "texts").iterdir())
    with np.load(path) as arrays:
        np.savez(path, tokens=arrays["tokens"][:4])
    again = call(run_study, *args)[1]
    assert [line for line in again.splitlines() if ", as before" in line and "other" not in line] == []
    assert sum(", as before" in line for line in again.splitlines()) == 4, "those of the other queries' features alone"
