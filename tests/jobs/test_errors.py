"""What jobs say, as programs, of an index, a checkpoint or an output that cannot be used: one line, and status 1."""

import json
import os
import pickle
import shutil
import sys

import pytest

from jobs import build_vector_index, encode_corpus, evaluate_retrieval, reindex_corpus, render_demo, search_corpus
from jobs.console import run
from tests.indexes import make_index
from tests.qasir.index.test_trouble import cut, fill, small_disk  # noqa: F401  a fixture


@pytest.fixture
def program(monkeypatch, capsys):
    """Runs a job as a program; its exit status and the lines on stderr, but for the log's."""

    def called(job, *args):
        monkeypatch.setattr(sys, "argv", [f"{job.__name__.removeprefix('jobs.')}.py", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run(job.app)
        return end.value.code, capsys.readouterr().err.splitlines()

    return called


@pytest.mark.parametrize("n_bytes", [0, 100])
@pytest.mark.parametrize("table", ["super_images", "videos"])
def test_a_fragment_that_is_cut_short(demo, demo_index, tmp_path, program, table, n_bytes):
    index = tmp_path / "index"
    shutil.copytree(demo_index.uri, index)
    cut(index, table, n_bytes)
    asking = [
        (search_corpus, ("--index", index, "a penguin")),
        (evaluate_retrieval, ("--index", index, "--queries", demo / "queries.jsonl")),
    ]
    if table == "videos":  # what is there is known from it alone
        asking += [
            (encode_corpus, ("--videos", demo / "videos", "--index", index)),
            (reindex_corpus, ("--index", index)),
            (search_corpus, ("--index", index, "--where", "duration_s > 1", "a penguin")),
        ]
    for job, args in asking:
        status, said = program(job, *args)
        assert (status, len(said)) == (1, 1), said
        assert said[0].startswith(f"error: cannot use {index}: ")
        assert "damaged or missing" in said[0]
        assert "is not a SQL condition" not in said[0]


def test_a_disk_that_is_full_or_read_only(small_disk, program):  # noqa: F811
    index = make_index(small_disk / "index", [200, 200], cells=False)
    fill(small_disk)
    status, said = program(build_vector_index, "--index", index.uri)
    assert (status, len(said)) == (1, 1), said
    assert "No space left on device" in said[0]
    assert index.uri in said[0]
    status, said = program(render_demo, "--output", small_disk / "demo", "--videos", 2)
    assert status == 1
    assert said[-1].startswith("error: ")
    assert "No space left on device" in said[-1]
    assert not any("Traceback" in line for line in said)


def test_an_output_that_cannot_be_written(demo, demo_index, tmp_path, program):
    args = ("--index", demo_index.uri, "--queries", demo / "queries.jsonl", "--output")
    (tmp_path / "file").write_text("")
    status, said = program(evaluate_retrieval, *args, tmp_path / "file")
    assert (status, said) == (1, [f"error: File exists: {tmp_path / 'file'}"])
    (tmp_path / "report" / "rankings.parquet").mkdir(parents=True)
    status, said = program(evaluate_retrieval, *args, tmp_path / "report")
    assert (status, said) == (1, [f"error: cannot write {tmp_path}/report/rankings.parquet: Is a directory"])


class Hostile:
    def __reduce__(self):
        return os._exit, (99,)


def test_a_checkpoint_that_would_run_code(demo, demo_index, tmp_path, program):
    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Hostile()))
    args = ("--videos", demo / "videos", "--index", tmp_path / "index")
    status, said = program(encode_corpus, *args, "--precision", "fp32", "--pretrained", tmp_path / "hostile.pt")
    assert (status, len(said)) == (1, 1), said
    assert "hostile.pt" in said[0]
    assert "trust" not in said[0]
    folder = tmp_path / "finetuned"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(["hostile"]))
    (folder / "finetuned.safetensors").write_bytes(pickle.dumps(Hostile()))
    status, said = program(search_corpus, "--index", demo_index.uri, "--finetuned", folder, "a penguin")
    assert (status, len(said)) == (1, 1), said
    assert str(folder) in said[0]


def test_names_and_queries_cannot_steer_a_terminal(demo, demo_index, tmp_path, program):
    status, said = program(search_corpus, "--index", tmp_path / "\x1b]0;owned\x07\u202e", "a penguin")
    assert status == 1
    assert len(said) == 1
    assert said[0].isprintable()
    status, said = program(search_corpus, "--index", demo_index.uri, "--where", "uri = '\x1b[2J\u202e", "a penguin")
    assert (status, len(said)) == (1, 1)
    assert said[0].isprintable()


def test_an_option_that_is_not_there_is_status_2(program):
    status, said = program(search_corpus, "--no-such")
    assert status == 2
    assert said[-1] == "Error: No such option: --no-such"
