"""A model of a few thousand weights, and videos of a few frames."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import save_file

from qasir.evaluation.query import Query
from qasir.training.mof.clips import read_clips
from qasir.training.mof.learn import train_mof
from qasir.training.mof.material import Captioned
from qasir.training.mof.settings import MofSettings
from qasir.video.corpus import list_videos
from qasir.video.tile import Tiling
from qasir.vlm.model import Vlm
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.weights import resolve
from tests.videos import write_video

SIDE = 32
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "patch_size": 8, "layers": 2, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
NOUNS = ("cat", "dog", "car", "tree", "cup")
QUICK = MofSettings(frames=2, dense_frames=3, epochs=2, batch_size=2, lr=1e-3, frame_lr=0.05)


def write_model(folder: Path) -> str:
    """The name of a model that was never trained."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights = open_clip.model.CLIP(**CONFIG).state_dict()
    save_file(
        {name: value for name, value in weights.items() if name != "attn_mask"}, folder / "open_clip_model.safetensors"
    )
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess}))
    return f"local-dir:{folder}"


def read_in_this_process(videos, tiling, n_frames):
    return (read_clips(some, tiling, n_frames) for some in videos)


@dataclass(frozen=True)
class Made:
    """Videos, a query about each, and a model, in a folder."""

    folder: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Made":
        write_model(folder / "model")
        for i, noun in enumerate(NOUNS):
            write_video(folder / "videos" / f"{noun}.mp4", 12 + 5 * i, rate=4)
        return cls(folder)

    @property
    def captioned(self) -> Captioned:
        return Captioned(list_videos(str(self.folder / "videos")), [Query(noun, f"a {noun}", noun) for noun in NOUNS])

    def vlm(self) -> Vlm:
        return Vlm(resolve(f"local-dir:{self.folder / 'model'}"), device="cpu")

    def tiling(self) -> Tiling:
        return Tiling(Fraction(1), 1, SIDE)

    def train(self, output: Path, settings: MofSettings = QUICK, **options):
        """Decodes in this process: starting a child takes longer than all of these videos."""
        options = {"read": read_in_this_process, **options}
        return train_mof(self.vlm(), self.captioned, self.captioned, settings, output, **options)
