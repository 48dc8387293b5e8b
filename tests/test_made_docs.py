"""What docs and README take from the code is what the code says now; `make docs` makes it anew."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))


def test_the_reference_is_made_from_the_code_as_it_is():
    assert (ROOT / "docs" / "reference.md").read_text() == REFERENCE["reference"]()


def test_the_tables_of_the_readme_are_made_from_the_code_as_it_is():
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- made: ") == text.count("<!-- end -->") > 0
    assert text == REFERENCE["readme"](text)
