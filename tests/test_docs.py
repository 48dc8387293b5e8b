"""The Python of docs/tables.md and README runs as it stands."""

import re
from pathlib import Path

import pytest

from qasir.index.schemas import DATA_TABLES
from qasir.video.walk import VIDEO_SUFFIXES

ROOT = Path(__file__).parents[1]
DOC, README = ROOT / "docs" / "tables.md", ROOT / "README.md"


def examples(path: Path) -> list[tuple[str, str]]:
    """(heading, code) of each section that has Python."""
    return re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize(("title", "code"), [pytest.param(*one, id=one[0]) for one in examples(DOC)])
def test_every_example_runs(title, code, demo_index, tmp_path, monkeypatch, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "index").symlink_to(demo_index.uri)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{DOC}: {title}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_python_of_the_readme_runs(demo, demo_index, dense_index, tmp_path, monkeypatch, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "videos").symlink_to(demo / "videos")
    for name, index in (("large.index", dense_index), ("small.index", demo_index)):
        (tmp_path / name).symlink_to(index.uri)
    monkeypatch.chdir(tmp_path)
    code = dict(examples(README))
    exec(compile(code["Library"], "README: Library", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3, "a line a hit"
    exec(compile(code["Tables"], "README: Tables", "exec"), {})


def test_the_examples_are_there():
    assert [title for title, _ in examples(README)] == ["Tables", "Library"]
    assert [title for title, _ in examples(DOC)] == [
        "When cells are", "Dates", "pandas", "Polars", "DuckDB", "LanceDB", "Two versions compared",
        "Searching from Python",
    ]  # fmt: skip
    assert DATA_TABLES == ("videos", "super_images")


def test_the_suffixes_that_folders_are_searched_for_are_told():
    (told,) = re.findall(r"A video's suffix is one of `([^`]+)`", (ROOT / "docs" / "operations.md").read_text())
    assert told.split() == sorted(VIDEO_SUFFIXES)
