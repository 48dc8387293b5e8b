"""Every command of docs/features.md, unchanged, on an annotation file as it is released and made-up features."""

import re
import shlex
from pathlib import Path

import numpy as np

from jobs import evaluate_retrieval, import_features, search_corpus
from qasir.evaluation.query_files import read_queries
from tests.features import write_hdf5
from tests.indexes import unit
from tests.jobs.test_jobs import call

ROOT = Path(__file__).parents[2]
JOBS = {"import_features": import_features, "evaluate_retrieval": evaluate_retrieval, "search_corpus": search_corpus}
QUERIES = ROOT / "tests" / "data" / "tvr.jsonl"


def test_the_commands_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queries = read_queries(QUERIES)
    rng = np.random.default_rng(0)
    frames = {query.video_id: unit(rng.standard_normal((6, 8))) for query in queries}
    texts = {query.query_id: frames[query.video_id][2] for query in queries} | {"90200": unit(np.ones(8))}
    paths = {"FEATURES": write_hdf5(tmp_path / "f.hdf5", frames), "TEXTS": write_hdf5(tmp_path / "t.hdf5", texts)}
    paths["QUERIES"] = QUERIES
    lines = re.findall(r"^python jobs/(\w+)\.py (.*)$", (ROOT / "docs" / "features.md").read_text(), re.MULTILINE)
    assert {name for name, _ in lines} == set(JOBS)
    for name, options in lines:
        line = re.sub(r"\$(\w+)", lambda match: str(paths[match[1]]), options)
        status, text, _, error = call(JOBS[name], *shlex.split(line))
        assert (status, error) == (0, None), text
    assert (tmp_path / "tvr.report" / "index.html").exists()
