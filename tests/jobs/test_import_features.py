import json

import numpy as np
import pytest

from jobs import evaluate_retrieval, import_features, reindex_corpus, search_corpus
from jobs.finetune import Data
from qasir.errors import FeaturesError
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.query_features import QueryFeatureOptions
from qasir.retrieval.recipe import Recipe
from qasir.training.finetune.fit import finetune as train_here
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.task import Task
from tests.features import write_hdf5, write_npy
from tests.indexes import unit
from tests.jobs.test_jobs import call


@pytest.fixture
def arrays():
    rng = np.random.default_rng(5)
    return {f"v_{name}": unit(rng.standard_normal((6, 4))) for name in ("a", "b", "c")}


def test_features_are_imported_and_searched_by_place(arrays, tmp_path):
    path = write_hdf5(tmp_path / "f.hdf5", {v: np.pad(array, ((0, 0), (2, 0))) for v, array in arrays.items()})
    index = tmp_path / "i"
    args = ("--features", path, "--index", index, "--model", "CLIP L/14", "--fps", 2, "--strip-prefix", "v_")
    status, text, facts, _ = call(import_features, *args, "--columns", "2:6", "--json")
    assert (status, facts["encoded"], facts["super_images"], facts["texts"]) == (0, 3, 18, False)
    assert "3 imported, 0 failed, 0 unchanged" in text
    assert "18 rows of features of 4 dimensions, columns 2:6, as given" in text
    assert "CLIP L/14 is only a label" in text
    assert call(import_features, *args, "--columns", "2:6", "--json")[2]["unchanged"] == 3
    assert isinstance(call(import_features, *args, "--columns", "1:5")[3], FeaturesError)
    hits = call(search_corpus, "--index", index, "--like", "b@1.2", "--json")[2]["hits"]
    assert (hits[0]["video_id"], hits[0]["start_s"]) == ("b", 1.0)
    error = call(reindex_corpus, "--index", index)[3]
    assert "bring it up to date by jobs/import_features.py" in str(error)


def test_a_grid_says_what_it_is(arrays, tmp_path):
    folder = write_npy(tmp_path / "f", arrays)
    (tmp_path / "d.json").write_text(json.dumps(dict.fromkeys(arrays, 12)))
    args = ("--features", folder, "--index", tmp_path / "i", "--model", "x", "--durations", tmp_path / "d.json")
    status, text, facts, _ = call(import_features, *args, "--grid", 2, "--pool", "mean", "--json")
    assert (status, facts["super_images"], facts["spec"]["features"]) == (0, 6, "as given, mean of 2 x 2")
    assert "stands in for a super image of 2 x 2 frames, which no model has seen" in text


def test_too_many_failures_are_an_exit_status(arrays, tmp_path):
    folder = write_npy(tmp_path / "f", {**arrays, **{f"x{i}": np.ones((2, 4)) for i in range(30)}})
    args = ("--features", folder, "--index", tmp_path / "i", "--model", "x", "--fps", 1)
    status, text, _, _ = call(import_features, *args)
    assert (status, "failures: features 30" in text) == (1, True)
    assert call(import_features, *args)[0] == 0  # nothing new was tried


def test_a_query_is_searched_for_by_its_features(arrays, tmp_path):
    folder = write_npy(tmp_path / "f", arrays)
    args = ("--features", folder, "--index", tmp_path / "i", "--model", "x", "--fps", 1)
    assert call(import_features, *args)[0] == 0
    given = write_hdf5(tmp_path / "q.h5", {"q7": arrays["v_c"][4], "long": 2 * arrays["v_c"][4]})
    asked = ("--index", tmp_path / "i", "--query-features", given, "--json")
    for options in (("--query-id", "q7"), ("--query-id", "long", "--query-normalise", "--moments")):
        facts = call(search_corpus, *asked, *options)[2]
        assert (facts["hits"][0]["video_id"], facts["query_id"]) == ("v_c", options[1])
        assert facts["hits"][0]["start_s"] == 4.0
    assert "no features of 1 of 1 queries: q8" in str(call(search_corpus, *asked, "--query-id", "q8")[3])
    assert "go together" in str(call(search_corpus, *asked, "--like", "v_a@1")[3])
    assert "go together" in str(call(search_corpus, "--index", tmp_path / "i", "--query-id", "q7")[3])
    assert call(search_corpus, "--server", "http://localhost:1", "--query-features", given, "--query-id", "q7")[0] == 2
    two = call(search_corpus, *asked, "--index", tmp_path / "j", "--hybrid", "fusion", "--query-id", "q7")[3]
    assert "they go with one --index" in str(two)


def test_a_checkpoint_is_trained_and_evaluated_on_features_alone(tmp_path):
    rng = np.random.default_rng(6)
    frames = {f"v{i}": unit(rng.standard_normal((5, 8))) for i in range(6)}
    queries, texts = [], {}
    for video_id, rows in frames.items():
        for k in (1, 3):
            query_id = f"{video_id}-{k}"
            texts[query_id] = unit(rows[k] + 0.2 * rng.standard_normal(8))
            moment = {"start_s": float(k), "end_s": k + 1.0, "duration_s": 5.0}
            queries.append({"query_id": query_id, "query": f"moment {query_id}", "video_id": video_id, **moment})
    asked = tmp_path / "queries.jsonl"
    asked.write_text("".join(json.dumps(query) + "\n" for query in queries))
    index, given = tmp_path / "i", write_hdf5(tmp_path / "q.h5", texts)
    path = write_npy(tmp_path / "f", frames)
    assert call(import_features, "--features", path, "--index", index, "--model", "x", "--fps", 1)[0] == 0
    splits = Data(str(index), asked, str(index), asked, tmp_path / "c").splits(QueryFeatureOptions(given))
    np.testing.assert_array_equal(splits[0].texts()[1], texts["v0-3"])
    settings = Settings(Recipe(), Architecture(dropout=0.0), epochs=1, batch_size=4, lr=1e-3)
    task = Task.of(*splits, settings)
    assert task.asked["train_query_features"] == f"query_features {given}"
    best = train_here(task, tmp_path / "c")["best"]
    args = ("--index", index, "--queries", asked, "--query-features", given, "--json")
    tuned = call(evaluate_retrieval, *args, "--finetuned", tmp_path / "c")[2]
    assert tuned["metrics"]["SumR"] == pytest.approx(best["SumR"])
    assert call(evaluate_retrieval, *args)[2]["metrics"]["R@1"] > 90.0
    found = call(search_corpus, *args[:2], *args[4:], "--query-id", "v4-3", "--finetuned", tmp_path / "c")[2]
    assert found["hits"][0]["video_id"] == "v4"
