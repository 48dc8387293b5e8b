"""Features of the demo, written in each format by a writer of the tests' own and imported again, give the metrics of
the encoded index to the digit."""

import json

import numpy as np
import pytest

from jobs import evaluate_retrieval, import_features
from qasir.evaluation.query_files import read_queries
from qasir.retrieval.opening import open_index
from tests.features import WRITERS, write_hdf5, write_npz
from tests.jobs.test_jobs import call

SAME = ("metrics", "ci95", "by_mv", "moments", "corpus_moments", "n_queries", "n_videos", "skipped")


@pytest.fixture(scope="module")
def queries(demo):
    return read_queries(demo / "queries.jsonl")


@pytest.fixture(scope="module")
def searcher(dense_index):
    return open_index(dense_index.uri)


@pytest.fixture(scope="module")
def frames(searcher):
    """{video_id: (T, D)} as they are stored."""
    rows = searcher.side.snapshot.super_images(["embedding"])
    ids = np.array(rows["video_id"].to_pylist())
    vectors = np.stack(rows["embedding"].to_numpy())
    return {video_id: vectors[ids == video_id] for video_id in dict.fromkeys(ids.tolist())}


@pytest.fixture(scope="module")
def texts(searcher, queries):
    """{query_id: (D,)}."""
    vectors = searcher.encode([query.text for query in queries])
    return {query.query_id: vector for query, vector in zip(queries, vectors, strict=True)}


def evaluated(index, demo, *args):
    status, _, facts, error = call(
        evaluate_retrieval, "--index", index, "--queries", demo / "queries.jsonl", *args, "--json"
    )
    assert (status, error) == (0, None)
    return {name: facts[name] for name in SAME}


@pytest.fixture(scope="module")
def of_the_encoded(dense_index, demo):
    return evaluated(dense_index.uri, demo)


@pytest.mark.parametrize("form", WRITERS)
def test_what_is_imported_ranks_as_what_was_encoded(form, frames, texts, demo, of_the_encoded, tmp_path):
    path = WRITERS[form](tmp_path / "frames.h5", frames)
    index = tmp_path / "i"
    args = ("--features", path, "--index", index, "--fps", 1, "--format", form)
    assert call(import_features, *args, "--model", "a label")[0] == 0
    given = write_hdf5(tmp_path / "texts.h5", texts)
    assert evaluated(index, demo, "--query-features", given) == of_the_encoded


def test_the_models_own_text_tower_serves_imported_frames(frames, demo, of_the_encoded, tmp_path):
    path = write_npz(tmp_path / "frames", frames)
    args = ("--features", path, "--index", tmp_path / "i", "--fps", 1)
    assert call(import_features, *args, "--model", "qasir-tiny", "--json")[2]["texts"] is True
    found = evaluated(tmp_path / "i", demo)
    assert found == of_the_encoded


def test_queries_by_qid_and_what_does_not_meet(frames, texts, demo, of_the_encoded, tmp_path):
    path = WRITERS["npy"](tmp_path / "frames", frames)
    assert call(import_features, "--features", path, "--index", tmp_path / "i", "--fps", 1, "--model", "x")[0] == 0
    pooled = {f"qid{name}": {"pooler_output": text, "last_hidden_state": text[None]} for name, text in texts.items()}
    folder = write_npz(tmp_path / "q", pooled)
    args = ("--query-features", folder, "--query-key")
    assert evaluated(tmp_path / "i", demo, *args, "pooler_output") == of_the_encoded
    asked = ("--index", tmp_path / "i", "--queries", demo / "queries.jsonl")
    out = tmp_path / "report"
    error = call(evaluate_retrieval, *asked, *args, "last_hidden_state", "--output", out)[3]
    assert "say by --query-pooling" in str(error)
    assert not out.exists()
    next(folder.iterdir()).unlink()
    error = call(evaluate_retrieval, *asked, *args, "pooler_output", "--output", out)[3]
    assert f"no features of 1 of {len(texts)} queries" in str(error)
    assert call(evaluate_retrieval, *asked, "--query-pooling", "mean")[0] == 2  # of what?
    error = call(evaluate_retrieval, *asked)[3]
    assert "only a label" in str(error)


def test_a_papers_list_takes_its_moments_from_the_release(demo, queries, frames, texts, of_the_encoded, tmp_path):
    path = WRITERS["npy"](tmp_path / "frames", frames)
    assert call(import_features, "--features", path, "--index", tmp_path / "i", "--fps", 1, "--model", "x")[0] == 0
    ids = {query.query_id: f"{query.video_id}#enc#{i}" for i, query in enumerate(queries)}
    listed = tmp_path / "test.caption.txt"
    listed.write_text("".join(f"{ids[query.query_id]} {query.text}\n" for query in queries))
    given = write_hdf5(tmp_path / "texts.h5", {ids[name]: text for name, text in texts.items()})
    args = ("--index", tmp_path / "i", "--queries", listed, "--query-features", given, "--json")
    bare = call(evaluate_retrieval, *args)[2]
    assert (bare["metrics"], bare["moments"]) == (of_the_encoded["metrics"], {})
    found = call(evaluate_retrieval, *args, "--moments-from", demo / "queries.jsonl")[2]
    assert {name: found[name] for name in SAME} == of_the_encoded
    assert call(evaluate_retrieval, *args, "--moments-format", "jsonl")[0] == 2


def test_the_report_says_that_features_were_imported(frames, texts, demo, tmp_path):
    path = WRITERS["npy"](tmp_path / "frames", frames)
    args = ("--features", path, "--index", tmp_path / "i", "--fps", 1, "--model", "x", "--grid", 2, "--pool", "mean")
    assert call(import_features, *args)[0] == 0
    given = write_hdf5(tmp_path / "texts.h5", texts)
    asked = ("--index", tmp_path / "i", "--queries", demo / "queries.jsonl", "--query-features", given)
    assert call(evaluate_retrieval, *asked, "--output", tmp_path / "report")[0] == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "imported features of frames, as given, mean of 2 x 2: no video was decoded here" in page
    assert "What encoding cost is not known" in page
    facts = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert facts["gflops"]["encoding_per_video"] == 0.0
    assert facts["spec"]["features"] == "as given, mean of 2 x 2"
