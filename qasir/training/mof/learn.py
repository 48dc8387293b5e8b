"""Trains with MOF from videos to a checkpoint."""

import logging
import resource
import time
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from qasir.encoding.options import settled_gap_s
from qasir.evaluation.query import fingerprint
from qasir.files.whole import write_bytes
from qasir.training.epochs import OnEpoch, run_epochs
from qasir.training.mof.before_and_after import before_and_after
from qasir.training.mof.clip_reading import read_here
from qasir.training.mof.clip_table import ReadClips, clips_of
from qasir.training.mof.mallopt import give_back_large_blocks
from qasir.training.mof.material import Captioned, Material
from qasir.training.mof.mof_training import MofTraining
from qasir.training.mof.pixels import PixelScale
from qasir.training.mof.settings import MofSettings
from qasir.training.state import TrainingState
from qasir.video.tile import Tiling
from qasir.vlm.model import Vlm

log = logging.getLogger(__name__)

KIND = "meta-optimised frames"
_PICTURES = 3


def train_mof(
    vlm: Vlm, train: Captioned, validation: Captioned, settings: MofSettings, output: Path, *,
    read: ReadClips = read_here, on_epoch: OnEpoch = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """Train, and leave `model.safetensors`, `history.json` and pictures in `output`; a killed training goes on there
    after its last epoch.

    read: how the videos are read; on_epoch gets every epoch's record, the first being before training (epoch 0).
    Returns {best, before, epochs, history, seconds, peak_mib}. Raises SpecError when the folder holds another training,
    QueryError when no query is about a video.
    """
    since = time.monotonic()
    give_back_large_blocks()
    state = TrainingState.of(output, KIND, _asked(vlm, train, validation, settings))
    output.mkdir(parents=True, exist_ok=True)
    gap_s = settled_gap_s(settings)
    max_gap = Fraction(str(gap_s)) if gap_s else None
    tiling = Tiling(Fraction(str(settings.fps)), settings.grid, vlm.image_size, max_gap=max_gap, tone_map=True)
    scale = PixelScale(*vlm.pixel_scale)
    material = {}
    for name, videos, n_frames in (
        ("train", train, settings.dense_frames),
        ("validation", validation, settings.frames),
    ):
        clips = clips_of(videos.corpus, str(output / f"clips_{name}.lance"), tiling, n_frames, read)
        material[name] = Material(clips, videos.queries, scale)
        without = len(clips.video_ids) - len(material[name].video_ids)
        if without:
            log.warning("%d %s videos have no query and are left out", without, name)
    training = MofTraining(vlm, settings, material["train"], material["validation"], output, state)
    state.restore(training, output)
    run_epochs(training, output, on_epoch)
    _draw(training, output)
    return {
        "best": state.best, "before": state.history[0], "epochs": state.position, "history": state.history,
        "seconds": time.monotonic() - since, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def _asked(vlm: Vlm, train: Captioned, validation: Captioned, settings: MofSettings) -> dict[str, Any]:
    """What must be the same for a training to go on."""
    asked = {**asdict(settings), "max_gap_s": settled_gap_s(settings)}
    if settings.sampling == "uniform":  # as before there was another way, so that trainings go on
        del asked["sampling"], asked["max_gap_s"]
    asked |= {"model": vlm.source.model, "weights": vlm.source.fingerprint()}
    for name, videos in (("train", train), ("validation", validation)):
        asked |= {f"{name}_queries": len(videos.queries), f"{name}_videos": len(videos.corpus.videos)}
        asked[f"{name}_queries_sha256"] = fingerprint(videos.queries)
    return asked


def _draw(training: MofTraining, output: Path) -> None:
    """Pictures of the first videos' frames, before and after."""
    if training.table is None:
        return
    batch = training.table.load(training.train.video_ids[:_PICTURES])
    for i, video_id in enumerate(batch.video_ids):
        name = video_id.replace("/", "_")
        write_bytes(output / f"frames_{name}.png", before_and_after(batch, i, training.train.scale))
