"""The encoder spec: everything that decides what an index's rows contain."""

import json
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from qasir.errors import SpecError
from qasir.video.super_image import Fit, Sampling, cell_edges

PIXELS_VERSION = 1
"""Raised whenever the same video under the same settings would give other pixels or other embeddings."""

AS_CODED = "tagged matrix and range, else BT.709 from 720 lines and BT.601 below; no transfer conversion"
TONE_MAPPED = (
    "tagged matrix and range, else BT.709 from 720 lines and BT.601 below; PQ and HLG to BT.709 by Hable's curve"
)
"""How colours became RGB: that of indexes as they were first made, and of new ones."""
FITS = ("squash", "letterbox")
SAMPLINGS = ("uniform", "keyframes")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_INFORMATION = frozenset({"library_version", "pretrained", "finetuned"})
MAX_GRID = 16
_MAX_FPS = 240.0


@dataclass(frozen=True)
class EncoderSpec:
    """How videos become rows. Two specs describe the same rows when their `identity` is equal.

    image_size: pixels a side of a super image; fps: samples a second; embedding_dim: D; weights: the SHA-256 of the
    weights file, or, as older versions wrote it, the open_clip tag or the hub's id; precision: what the image tower
    computes in, never "auto" here.

    sampling: which frames are taken: "uniform", that on display at every k / fps, or "keyframes", those that a file
    gives away without decoding others, at most fps a second, and decoded ones where two are further apart than
    max_gap_s (0 for uniform).

    finetuned: the folder of the fine-tuned checkpoint that was applied to the rows, "" for none; finetuned_weights: its
    SHA-256; gates: whether super images also store what a text-gated interaction weighs by.

    features: "" where frames were encoded; else how imported features of frames became rows, "as given" or "columns
    0:512, normalised, mean of 3 x 3" say. Then image_size is 0 and weights "" where no model is known that encodes
    their queries, model being only a label; fps is 0 where each video's duration was given instead; and what is said
    of pixels is empty.
    """

    model: str
    pretrained: str
    weights: str
    grid: int
    image_size: int
    fps: float
    embedding_dim: int
    precision: str
    fit: Fit = "squash"
    cells: bool = True
    thumbnails: bool = True
    interpolation: str = "bicubic"
    colour: str = AS_CODED
    pixels_version: int = PIXELS_VERSION
    sampling: Sampling = "uniform"
    max_gap_s: float = 0.0
    finetuned: str = ""
    finetuned_weights: str = ""
    gates: bool = False
    features: str = ""
    library_version: str = ""

    def __post_init__(self) -> None:
        check_grid(self.grid)
        if self.fps or not self.features:
            check_fps(self.fps)
        check_fit(self.fit)
        check_sampling(self.sampling)
        if self.image_size or not self.features:
            cell_edges(self.image_size, self.grid)

    @property
    def sampled(self) -> str:
        """Which frames are taken, in words."""
        if self.sampling == "uniform":
            return f"{self.fps:g} frame{'' if self.fps == 1.0 else 's'} a second"
        return f"keyframes, at most {self.fps:g} a second, and frames between those over {self.max_gap_s:g} s apart"

    @property
    def rate(self) -> Fraction:
        """fps as the exact rational its decimal form means."""
        return Fraction(str(self.fps))

    @property
    def tone_map(self) -> bool:
        """Whether frames of a high dynamic range are mapped to the standard one."""
        return self.colour == TONE_MAPPED

    @property
    def has_model(self) -> bool:
        """Whether a model is known that encodes queries for the rows."""
        return not self.features or bool(self.weights)

    @property
    def frames_per_super_image(self) -> int:
        return self.grid * self.grid

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that must agree for rows to belong in one index."""
        return {name: value for name, value in asdict(self).items() if name not in _INFORMATION}

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "EncoderSpec":
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})

    def differences(self, other: "EncoderSpec") -> dict[str, tuple[Any, Any]]:
        """{field: (ours, theirs)} over the identity. Weights that one knows by a hash and the other by the name under
        which they were loaded do not differ, as far as can be told."""
        mine, theirs = self.identity, other.identity
        found = {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}
        if "sampling" in found:
            found.pop("max_gap_s", None)  # which only one of them has
        if "weights" in found and (self._is_named_by(other.weights) or other._is_named_by(self.weights)):
            del found["weights"]
        return found

    def _is_named_by(self, weights: str) -> bool:
        return weights == (self.pretrained or self.model)


def check_grid(grid: int) -> None:
    if not 1 <= grid <= MAX_GRID:
        raise SpecError(f"grid {grid}: choose a whole number from 1 to {MAX_GRID}")


def check_fps(fps: float) -> None:
    if not 0.0 < fps <= _MAX_FPS:
        raise SpecError(f"fps {fps}: choose a sampling rate above 0 and up to {_MAX_FPS:g} frames a second")


def check_fit(fit: str) -> None:
    if fit not in FITS:
        raise SpecError(f"fit {fit!r}: choose one of {', '.join(FITS)}")


def check_sampling(sampling: str) -> None:
    if sampling not in SAMPLINGS:
        raise SpecError(f"sampling {sampling!r}: choose one of {', '.join(SAMPLINGS)}")


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise SpecError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
