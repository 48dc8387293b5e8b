"""What a process loads: what the contracts in pyproject.toml cannot see, since libraries and late imports load modules
too."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.indexes import make_index

ROOT = Path(__file__).parents[1]

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


def test_a_worker_that_encodes_waits_for_no_lance():
    loaded = loaded_by("import pipelines.encoding")
    assert "torch" in loaded
    assert not loaded & {"av", "lance", "pandas", *NOT_FOR_READERS}


def test_a_models_sizes_and_cost_wait_for_no_compiler():
    """Which torch imports of itself where models are made without numbers."""
    loaded = loaded_by(
        "from qasir.vlm.flops import architecture_gflops\n"
        "from qasir.vlm.sizes import model_sizes\n"
        "from qasir.vlm.weights import VlmSource, resolve\n"
        "source = resolve('qasir-tiny')\n"
        "assert model_sizes(source, cells=True) and architecture_gflops(source, 192)\n"
        "for name in ('ViT-B-32', 'RN50'): assert model_sizes(VlmSource(name, '')).image_size == 224\n"
    )
    assert "torch._dynamo" not in loaded


def test_torch_still_compiles_after_a_model_was_made_without_numbers():
    loaded = loaded_by(
        "import torch\n"
        "from qasir.vlm.meta_device import meta_device\n"
        "with meta_device(): assert (2 * torch.randn(3) - 1).is_meta\n"
        "assert torch.compile(lambda x: torch.sub(x, 1) * 2, backend='eager')(torch.ones(2)).tolist() == [0.0, 0.0]\n"
        "with meta_device(): assert (2 * torch.randn(3) - 1).is_meta\n"
    )
    assert "torch._dynamo.symbolic_convert" in loaded


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


SLOW_TO_IMPORT = {"lance", "lancedb", "open_clip", "pandas", "ray", "timm", "torch", "torchvision"}


def test_help_of_no_job_waits_for_torch_lance_or_ray():
    """All jobs in one process, which has loaded nothing else before."""
    names = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if "__main__" in path.read_text())
    assert "search_corpus" in names
    loaded = loaded_by(
        "import runpy\n"
        f"for name in {names}:\n"
        "    sys.argv = [name, '--help']\n"
        "    try:\n"
        "        runpy.run_module(f'jobs.{name}', run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0, name\n"
        f"    found = {SLOW_TO_IMPORT} & set(sys.modules)\n"
        "    assert not found, f'{name} --help loads {found}'"
    )
    assert "jobs.command_line" in loaded


def test_a_cold_search_by_text_waits_for_nothing_that_it_does_not_use(tmp_path):
    make_index(tmp_path / "index", [3, 2], dim=192)  # the width of qasir-tiny
    loaded = loaded_by(run_of("search_corpus", "--index", str(tmp_path / "index"), "a flamingo"))
    assert {"open_clip", "torch", "lance"} <= loaded
    assert not loaded & {"lancedb", "torch._dynamo", "timm", "huggingface_hub", "av", *NOT_FOR_READERS}
    assert not {name for name in loaded if name.startswith(("torchvision.models", "torchvision.io", "jobs.progress"))}


def test_a_search_by_a_place_loads_no_model(tmp_path):
    make_index(tmp_path / "index", [3, 2])
    loaded = loaded_by(run_of("search_corpus", "--index", str(tmp_path / "index"), "--like", "v000@1"))
    assert "qasir.retrieval.scoring" in loaded
    assert not loaded & {"lancedb", "open_clip", "torchvision", *NOT_FOR_READERS}


def run_of(job, *args):
    """Code that runs a job as a program does, and fails where that fails."""
    return (
        "import runpy\n"
        f"sys.argv = {[job, *args]}\n"
        "try:\n"
        f"    runpy.run_module('jobs.{job}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0"
    )
