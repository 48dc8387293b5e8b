"""open_clip is imported without what it does not use, and all of it works; every test starts a process of its own."""

import subprocess
import sys

import pytest


def output_of(code, *path):
    """What a fresh process prints. path: folders that it looks for modules in first."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path[:0] = {list(map(str, path))}\n{code}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_left_out_comes_when_it_is_asked_for():
    """A class of torchvision that open_clip has, torchvision as a whole, and a model with a tower of timm's."""
    code = """
from qasir.vlm.open_clip_import import open_clip
assert not {"timm", "huggingface_hub", "torch._dynamo", "torchvision.models"} & set(sys.modules)
assert open_clip.create_model("ViT-B-32", load_weights=False, device="meta") is not None
picked = open_clip.image_transform(32, is_train=False)
assert not {"timm", "torch._dynamo", "torchvision.models"} & set(sys.modules)

import torch
import torchvision
import torchvision.transforms as transforms

assert "torchvision.models" not in sys.modules
assert isinstance(picked, transforms.Compose)
assert open_clip.utils.FrozenBatchNorm2d is torchvision.ops.misc.FrozenBatchNorm2d
from torchvision.ops import box_area

assert box_area(torch.tensor([[0.0, 0.0, 2.0, 3.0]])).item() == 6.0
from torchvision.models import resnet18

assert torchvision.models.resnet18 is resnet18
assert torchvision.__version__ and torchvision.ops.box_area is box_area
try:
    torchvision.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise AssertionError

with torch.device("meta"):
    model = open_clip.create_model("ViT-B-16-SigLIP", load_weights=False, device="meta")
import timm

assert isinstance(model.visual.trunk, timm.models.vision_transformer.VisionTransformer)
assert isinstance(timm.__version__, str)
import huggingface_hub

assert open_clip.pretrained.hf_hub_download.func.__name__ == "hf_hub_download"
assert open_clip.push_to_hf_hub.__name__ == "push_to_hf_hub"
"""
    output_of(code)


@pytest.mark.slow
def test_what_a_process_has_imported_already_stays_as_it_is():
    code = """
import huggingface_hub
from qasir.vlm.open_clip_import import open_clip as taken
import open_clip

assert taken is open_clip
assert sys.modules["huggingface_hub"] is huggingface_hub
assert open_clip.pretrained.hf_hub_download.func is huggingface_hub.hf_hub_download
"""
    output_of(code)


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    ["transformers/__init__.py", "sitecustomize_never.py"],
    ids=["beside transformers", "where a module cannot be had in this way"],
)
def test_it_is_imported_plainly(tmp_path, module):
    """Beside transformers; and where torchvision's modules do not come without the package."""
    there = tmp_path / module
    there.parent.mkdir(exist_ok=True)
    there.write_text("")
    code = """
from importlib.abc import MetaPathFinder

class OnlyWhole(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torchvision.ops.misc" and "torchvision.datasets" not in sys.modules:
            raise ModuleNotFoundError(name)

if not transformers:
    sys.meta_path.insert(0, OnlyWhole())
from qasir.vlm.open_clip_import import open_clip
import torchvision

assert torchvision.models and "timm" in sys.modules
assert sys.modules["timm"] is open_clip.timm_model.timm
assert open_clip.create_model("ViT-B-32", load_weights=False, device="meta") is not None
"""
    output_of(f"transformers = {module.startswith('transformers')}\n{code}", tmp_path)
