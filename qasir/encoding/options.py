"""What a person chooses: the options that decide an index's rows, and those of a run, which change no row."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Protocol

from qasir.encoding.memory import DECODE_MEMORY
from qasir.errors import SpecError
from qasir.index.spec import check_fit, check_fps, check_grid, check_precision, check_sampling
from qasir.options import Doc, Flag, Range, Shown
from qasir.video.hardware import Decoder, check_decoder
from qasir.video.super_image import Fit, Sampling

SEGMENT_S = 300
"""Seconds of video in a segment. Each costs a seek, the first frame and on average half a group of pictures."""
SEGMENT_BYTES = 1 << 20
"""The least a segment holds on average: a small file that states hours is damaged, or a still that decodes in no
time."""


MAX_GAP_S = 4.0
"""The longest that keyframe sampling goes without a sample, in seconds, where --fps does not ask for less often."""


SamplingOption = Annotated[
    Sampling, Doc("uniform, frames at even distances, or keyframes, which need no others decoded.")
]
MaxGapOption = Annotated[
    float | None,
    Doc("With --sampling keyframes: where two are further apart, frames between them are decoded."),
    Shown("4s"),
]


@dataclass(frozen=True)
class EncoderOptions:
    """What decides an index's rows, as given; `pretrained` and `image_size` None mean the model's own, `max_gap_s` None
    MAX_GAP_S with keyframes."""

    model: Annotated[str, Doc("open_clip model name, hf-hub:ID or local-dir:PATH.")] = "qasir-tiny"
    pretrained: Annotated[str | None, Doc("open_clip tag or the path of a checkpoint.")] = None
    grid: Annotated[int, Doc("N: a super image holds N x N frames.")] = 3
    fps: Annotated[float, Doc("Frames sampled per second of video.")] = 1.0
    sampling: SamplingOption = "uniform"
    max_gap_s: MaxGapOption = None
    image_size: Annotated[int | None, Doc("Pixels a side of a super image."), Shown("the model's")] = None
    fit: Annotated[Fit, Doc("How a frame fills its cell: squash or letterbox.")] = "squash"
    precision: Annotated[str, Doc("auto, fp32, bf16 or fp16.")] = "auto"
    cells: Annotated[bool, Doc("Store an embedding for each cell too.")] = True
    thumbnails: Annotated[bool, Doc("Store a small JPEG of each super image.")] = True


def check_values(options: EncoderOptions) -> float:
    """All of them but the model's own; gives max_gap_s as an encoder spec holds it. Raises SpecError."""
    check_grid(options.grid)
    check_fps(options.fps)
    check_fit(options.fit)
    check_sampling(options.sampling)
    check_precision(options.precision)
    return settled_gap_s(options)


class Sampled(Protocol):
    """Options that say which frames are sampled."""

    @property
    def sampling(self) -> Sampling: ...

    @property
    def fps(self) -> float: ...

    @property
    def max_gap_s(self) -> float | None: ...


def settled_gap_s(options: Sampled) -> float:
    """max_gap_s as an encoder spec holds it: 0 with uniform sampling, else a period at least. Raises SpecError."""
    if options.sampling == "uniform":
        if options.max_gap_s is not None:
            raise SpecError("--max-gap goes with --sampling keyframes: uniform samples are 1 / fps apart")
        return 0.0
    period = 1.0 / options.fps
    if options.max_gap_s is None:
        return max(MAX_GAP_S, period)
    if not options.max_gap_s >= period:
        raise SpecError(
            f"max gap {options.max_gap_s:g} s is shorter than 1 / fps = {period:g} s: choose more frames a second or a "
            "longer gap"
        )
    return options.max_gap_s


@dataclass(frozen=True)
class EncodeOptions:
    """How to encode, apart from what: none of these changes a row.

    decode_timeout_s: None waits for ever. decode_memory: bytes that decoding a video may take, None as many as there
    are. Both hold only in processes that are watched. segment_s, segment_bytes: how long videos are cut
    (`qasir.encoding.cut`).
    """

    allow_partial: Annotated[
        bool, Doc("Keep what decodes of a damaged video."), Flag("--allow-partial/--no-allow-partial")
    ] = False
    commit_every_s: Annotated[float, Doc("At most this much work is lost by a kill.")] = 30.0
    decode_timeout_s: Annotated[
        float | None, Doc("Give up on a video whose decoding makes no progress for so long.")
    ] = 120.0
    decoder: Annotated[
        Decoder,
        Doc("cpu, cuda (on GPUs, whatever can be), or auto: on the GPUs of encoders, where frames are large enough."),
    ] = "auto"
    decode_memory: int | None = DECODE_MEMORY
    segment_s: int = SEGMENT_S
    segment_bytes: int = SEGMENT_BYTES

    def __post_init__(self) -> None:
        check_decoder(self.decoder)
        least_of = {"commit_every_s": 0, "decode_timeout_s": 0, "decode_memory": 1, "segment_s": 1, "segment_bytes": 0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise SpecError(f"{name.removesuffix('_s').replace('_', ' ')} {value}: choose a number from {least} up")

    @property
    def decode_limits(self) -> dict[str, Any]:
        """What `qasir.encoding.decode.decode_segments` takes of them."""
        return {"allow_partial": self.allow_partial, "decoder": self.decoder, **self._process_limits}

    @property
    def cut_limits(self) -> dict[str, Any]:
        """What `qasir.encoding.cut.cut_videos` takes of them."""
        return {"segment_s": self.segment_s, "segment_bytes": self.segment_bytes, **self._process_limits}

    @property
    def _process_limits(self) -> dict[str, Any]:
        return {"time_limit_s": self.decode_timeout_s, "memory_limit": self.decode_memory}


@dataclass(frozen=True)
class ReindexOptions:
    """What re-indexing does besides encoding."""

    retry_failed: Annotated[bool, Doc("Try all that failed again, whatever it failed of and however often.")] = False
    max_removed: Annotated[float, Doc("Largest share of an index that may be removed."), Range(0.0, 1.0)] = 0.1
    keep_versions_for: Annotated[timedelta, Doc("Drop table versions older than this.")] = timedelta(days=7)
    repair: Annotated[
        bool, Doc("Read every row, mend what a power loss left, and encode again the videos whose rows do not add up.")
    ] = False
