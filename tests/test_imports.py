"""What a process loads: what the contracts in pyproject.toml cannot see, since libraries and late imports load modules
too."""

import subprocess
import sys

import pytest

from tests.indexes import make_index

NOT_FOR_READERS = {
    "qasir.demo",
    "qasir.evaluation.report",
    "qasir.study",
    "qasir.training",
    "altair",
    "matplotlib",
    "ray",
    "vl_convert",
}


def loaded_by(code):
    """The names of all modules that a fresh process has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("stage", ["decode", "write"])
def test_a_worker_that_decodes_or_writes_waits_for_no_torch(stage):
    loaded = loaded_by(f"import qasir.encoding.{stage}")
    assert f"qasir.encoding.{stage}" in loaded
    assert not loaded & {"torch", "open_clip", *NOT_FOR_READERS}


def test_opening_an_index_or_a_checkpoint_loads_nothing_that_trains_reports_or_distributes(tmp_path):
    make_index(tmp_path / "index", [3, 2])
    loaded = loaded_by(
        f"import qasir, qasir.retrieval.checkpoint\nassert qasir.open_index({str(tmp_path / 'index')!r})"
    )
    assert "qasir.retrieval.searcher" in loaded
    assert not loaded & NOT_FOR_READERS


def test_the_package_itself_loads_nothing_until_a_name_is_used():
    loaded = loaded_by("import qasir\nassert qasir.__all__")
    assert not {name for name in loaded if name.startswith("qasir.")} | loaded & {"lance", "numpy", "torch"}
