"""What docs and README take from the code is what the code says now; `make docs` makes it anew."""

import re
import runpy
from pathlib import Path

import pytest

from qasir.errors import ERROR_KINDS
from qasir.index.changes import MOST_ATTEMPTS

ROOT = Path(__file__).parents[1]
ARCHITECTURE = runpy.run_path(str(ROOT / "docs" / "make_architecture.py"))
REFERENCE = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))


def test_the_reference_is_made_from_the_code_as_it_is():
    assert (ROOT / "docs" / "reference.md").read_text() == REFERENCE["reference"]()


def test_the_tables_of_the_readme_are_made_from_the_code_as_it_is():
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- made: ") == text.count("<!-- end -->") > 0
    assert text == REFERENCE["readme"](text)


def drawn_and_now():
    return ARCHITECTURE["read"]((ROOT / "docs" / "architecture.svg").read_text()), ARCHITECTURE["facts"]()


def test_the_picture_of_the_rooms_shows_the_imports_that_there_are():
    drawn, now = drawn_and_now()
    assert drawn.imports == now.imports
    assert [[room.name for room in row] for row in drawn.rows] == [[room.name for room in row] for row in now.rows]


def test_the_picture_of_the_rooms_is_about_right_in_their_sizes():
    drawn, now = ({room.name: room.lines for row in facts.rows for room in row} for facts in drawn_and_now())
    assert drawn == {name: pytest.approx(lines, rel=0.2, abs=40) for name, lines in now.items()}


def test_the_kinds_of_failure_in_the_docs_are_those_that_there_are():
    table = (ROOT / "docs" / "operations.md").read_text().split("| error_kind |")[1]
    assert re.findall(r"^\| (\w+) \|", table, re.MULTILINE) == list(ERROR_KINDS)
    (listed,) = re.findall(r"The kinds of failure are (.*?);", (ROOT / "README.md").read_text(), re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == list(ERROR_KINDS)


def test_how_often_a_failure_that_may_pass_is_tried_is_what_the_docs_say():
    assert f"at most {MOST_ATTEMPTS} times in all" in (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_files_that_a_document_names_are_there(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", text)
    assert len(named) > 10
    assert [name for name in named if not any((place / name).exists() for place in (ROOT, ROOT / "qasir"))] == []
