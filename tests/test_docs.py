"""The examples of docs/tables.md run as they stand."""

import re
from pathlib import Path

import pytest

from qasir.index import maintenance as upkeep

DOC = Path(__file__).parents[1] / "docs" / "tables.md"
EXAMPLES = re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```", DOC.read_text(), re.DOTALL)


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_every_example_runs(title, code, demo_index, tmp_path, monkeypatch, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "index").symlink_to(demo_index.uri)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{DOC}: {title}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_examples_are_there():
    assert [title for title, _ in EXAMPLES] == [
        "pandas", "Polars", "DuckDB", "LanceDB", "Two versions compared", "Searching from Python",
    ]  # fmt: skip
    assert upkeep.DATA_TABLES == ("videos", "super_images")
