"""How a training with meta-optimised frames is done, as it is asked for."""

from dataclasses import dataclass, field
from typing import Annotated

from qasir.encoding.options import MaxGapOption, SamplingOption, settled_gap_s
from qasir.errors import SpecError
from qasir.index.spec import check_fps, check_grid, check_sampling
from qasir.options import Doc, Flag
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.pooled import Pooled

METHODS = ("mof", "plain", "dense")
LAYERS = ("last", "projections", "all")
POOLINGS = ("mean", "attention")
_OF_FRAMES = ("frame_lr", "inner_lr", "clamp")


@dataclass(frozen=True)
class Objective:
    """L(w; frames)."""

    pooling: Annotated[str, Doc(f"Over a video's frames: {' or '.join(POOLINGS)}.")] = "mean"
    attention_temperature: Annotated[float, Doc("Of attention pooling."), Flag("--temperature")] = Attention.temperature

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise SpecError(f"pooling {self.pooling!r}: choose one of {', '.join(POOLINGS)}")

    @property
    def useless(self) -> dict[str, str]:
        """{field: why} of what this pooling has no use for."""
        if self.pooling == "attention":
            return {}
        return {"attention_temperature": f"is of attention, and pooling {self.pooling} has none"}

    @property
    def scoring(self) -> Pooled:
        return Attention(self.attention_temperature) if self.pooling == "attention" else Mean()


@dataclass(frozen=True)
class MofSettings:
    """The paper's defaults, but for the epochs (100 there)."""

    frames: Annotated[int, Doc("K: frames learned for each video, and used of one at test.")] = 4
    dense_frames: Annotated[int, Doc("|R|: frames that stand for the whole video.")] = 32
    method: Annotated[str, Doc(f"{', '.join(METHODS)}: what mof is compared with.")] = "mof"
    layers: Annotated[str, Doc(f"What trains: {', '.join(LAYERS)} (block of each tower, with projections).")] = "last"
    objective: Objective = field(default_factory=Objective)
    grid: Annotated[int, Doc("N: above 1 a frame is a super image of N x N frames.")] = 1
    fps: Annotated[float, Doc("Frames sampled per second, from which K and |R| are taken.")] = 1.0
    sampling: SamplingOption = "uniform"
    max_gap_s: MaxGapOption = None
    epochs: Annotated[int, Doc("Passes over the training videos.")] = 10
    batch_size: Annotated[int, Doc("Videos a batch.")] = 16
    lr: Annotated[float, Doc("Of the model's AdamW.")] = 1e-5
    frame_lr: Annotated[float, Doc("Of the frames' Adam, halved every 30 epochs.")] = 8e-4
    inner_lr: Annotated[float, Doc("alpha: the model's step inside the meta step.")] = 1.0
    frame_steps_per_epoch: Annotated[int, Doc("Meta passes an epoch.")] = 1
    clamp: Annotated[bool, Doc("Keep learned frames to colours that exist."), Flag("--clamp/--no-clamp")] = False
    seed: Annotated[int, Doc("Of batches and captions.")] = 0

    def __post_init__(self) -> None:
        check_fps(self.fps)
        check_grid(self.grid)
        check_sampling(self.sampling)
        settled_gap_s(self)
        if self.method not in METHODS:
            raise SpecError(f"method {self.method!r}: choose one of {', '.join(METHODS)}")
        if not 1 <= self.frames <= self.dense_frames:
            raise SpecError(
                f"{self.frames} frames of {self.dense_frames} dense ones: choose 1 <= frames <= dense frames"
            )
        if self.epochs < 1 or self.batch_size < 2 or self.frame_steps_per_epoch < 0:
            raise SpecError("epochs must be 1 or more, batches 2 or more, frame steps an epoch not below 0")
        if self.lr < 0 or self.frame_lr < 0 or self.inner_lr < 0:
            raise SpecError("learning rates must not be below 0")

    @property
    def useless(self) -> dict[str, str]:
        """{field: why} of what the method has no use for. Every one takes its K frames from the dense ones."""
        if self.method != "mof":
            names = (*_OF_FRAMES, "frame_steps_per_epoch")
            return dict.fromkeys(names, f"is of learned frames, and method {self.method} learns none")
        if not self.frame_steps_per_epoch:
            return dict.fromkeys(_OF_FRAMES, "is of meta steps, of which there are none")
        return {}
