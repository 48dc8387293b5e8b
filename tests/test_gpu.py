"""What a GPU computes equals what a CPU computes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.on_device import apart, results

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def on_cpu():
    return results("cpu")


def in_a_process(device, path, environment=None):
    command = [sys.executable, "-m", "tests.on_device", device, str(path)]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    with np.load(path) as saved:
        return dict(saved)


@pytest.mark.gpu
def test_a_gpu_encodes_and_scores_as_a_cpu_does(gpu, on_cpu, tmp_path):
    assert apart(on_cpu, in_a_process("cuda", tmp_path / "gpu.npz", gpu)) == []


def test_another_process_on_a_cpu_computes_the_same(on_cpu, tmp_path):
    assert apart(on_cpu, in_a_process("cpu", tmp_path / "cpu.npz")) == []


def test_what_differs_is_found(on_cpu):
    for name, values in on_cpu.items():
        assert apart(on_cpu, {**on_cpu, name: np.roll(values, 1, axis=0)}) == [name]
    a_little = on_cpu["attention scores"] + np.float32(3e-4)
    assert apart(on_cpu, {**on_cpu, "attention scores": a_little}) == ["attention scores"]
    with pytest.raises(ValueError, match="fp32 texts"):
        apart(on_cpu, {name: values for name, values in on_cpu.items() if name != "fp32 texts"})
