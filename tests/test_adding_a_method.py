"""A way of ranking is one file: what a new one needs, to be searched, evaluated, tuned, studied and reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs import evaluate_retrieval, run_study, search_corpus
from qasir.evaluation.evaluate import evaluate
from qasir.evaluation.query_files import read_queries
from qasir.evaluation.report.page import render_report
from qasir.evaluation.tuning import chosen, sum_r
from qasir.retrieval.methods import named
from qasir.retrieval.methods.fusion import Fusion
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.opening import open_index, together
from tests.jobs.test_jobs import call


@dataclass(frozen=True)
class Best(Pooled):
    """The mean of the two super images that fit best, or of one."""

    name = "best"
    argument = "n"

    n: int = 2

    def weights(self, similarity: Tensor, padding: Tensor | None) -> Tensor:
        counted = min(self.n, similarity.shape[1])
        places = similarity.topk(counted, dim=1).indices
        return torch.zeros_like(similarity).scatter_(1, places, 1.0 / counted)

    def sentence(self) -> str:
        return f"its {self.n} best super images"

    def choices(self, n_videos: int) -> Mapping[str, Sequence[Any]]:
        return {"n": (1, 2, 4)}


@pytest.fixture(autouse=True)
def _named(monkeypatch):
    monkeypatch.setitem(named.METHODS, Best.name, Best)


@pytest.fixture
def searcher(demo_index):
    return open_index(demo_index.uri)


@pytest.fixture
def queries(demo):
    return read_queries(demo / "queries.jsonl")


def test_it_is_searched(searcher, demo_index):
    one, best = searcher.search("a penguin", 4, Best(1)), searcher.search("a penguin", 4, named.made("max"))
    assert [hit.video_id for hit in one] == [hit.video_id for hit in best]
    status, output, facts, _ = call(
        search_corpus, "a penguin", "--index", demo_index.uri, "--aggregation", "best:1", "--json"
    )
    assert status == 0
    assert facts["scoring"] == {"aggregation": "best:1"}
    assert facts["hits"][0]["video_id"] == one[0].video_id
    assert one[0].video_id in output


def test_it_is_tuned_evaluated_and_reported(searcher, queries, demo, demo_index):
    method = chosen(searcher, queries, Best(4))
    assert sum_r(searcher, queries, method) == max(sum_r(searcher, queries, Best(n)) for n in (1, 2, 4))
    result = evaluate(searcher, queries, method)
    assert result.to_dict()["scoring"]["aggregation"] == f"best:{method.n}"
    assert result.cost.total > 0
    assert method.sentence() in render_report(result, searcher, title="t")
    status, output, facts, _ = call(
        evaluate_retrieval, "--index", demo_index.uri, "--queries", demo / "queries.jsonl", "--aggregation", "best:2",
        "--validation-queries", demo / "queries.jsonl", "--json",
    )  # fmt: skip
    assert status == 0
    assert "its 2 best super images" in output
    assert facts["metrics"]["SumR"] == pytest.approx(sum_r(searcher, queries, Best(2)))


def test_it_is_one_side_of_a_hybrid(searcher, queries):
    both = together(searcher.side, searcher.side)
    texts = [query.text for query in queries[:3]]
    values = both.score(texts, Fusion(1.0, Best(1), named.made("mean")))
    assert (np.argsort(-values) == np.argsort(-searcher.score(texts, Best(1)))).all()


@pytest.mark.slow
def test_it_is_studied(demo, local_ray, tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text(
        f"videos: {demo / 'videos'}\nqueries: {demo / 'queries.jsonl'}\n"
        "encoders:\n  - {grid: 3, cells: false, thumbnails: false}\nscorings:\n  - aggregation: [attention, 'best:2']\n"
    )
    status, output, facts, error = call(run_study, "--config", config, "--output", tmp_path / "study", "--json")
    assert status == 0, error
    assert (facts["settings"], facts["failed"]) == (2, 0)
    assert "best:2" in output
