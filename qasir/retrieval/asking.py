"""What is searched for: a text, a picture, a place in a video of the index, or several of these together.

Each part becomes a vector (D,) of every index that is searched. A text goes through the model's text tower. A picture
goes through its image tower as a frame that fills a super image. A place is the stored vector of the cell there, or of
the super image where there are no cells; no model is needed.

**Several parts.** Each part's scores are standardised over the videos (mean 0, population standard deviation 1, as
`methods.fusion` does) and the mean of those is the score: pictures are more alike each other than a text and a picture
are, so that of summed vectors the picture would decide alone. Where a moment lies is told by one vector, the parts' sum
over the same deviations d_p, sum_p q_p / d_p, normalised: standardising similarities is dividing vectors.

**Fine-tuned checkpoints.** A picture or a place is compared as a super image is, so it goes through the image side: its
adapter, if it has one. A temporal encoder changes super images by their neighbours in the video, which a picture does
not have: with one, only texts can be searched for.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qasir.errors import QueryError, UnknownVideoError
from qasir.retrieval.checkpoint import Checkpoint
from qasir.retrieval.methods.fusion import standardised
from qasir.retrieval.moments import finest
from qasir.retrieval.text_encoder import TextEncoder, check_model
from qasir.retrieval.vector_source import VectorSource
from qasir.retrieval.vectors import normalised


class Searched(Protocol):
    """What of an index is needed to turn a part into its vector."""

    @property
    def vectors(self) -> VectorSource: ...

    @property
    def texts(self) -> TextEncoder: ...


@dataclass(frozen=True)
class Picture:
    """A picture to search by: a file's path, or the bytes of one."""

    source: str | Path | bytes = field(repr=False)

    def __str__(self) -> str:
        return "a picture" if isinstance(self.source, bytes) else f"picture {self.source}"

    def vector(self, side: Searched) -> NDArray[np.float32]:
        """Raises QueryError for what is no picture, or where the index cannot be searched by one."""
        spec, checkpoint = side.vectors.snapshot.spec, side.texts.checkpoint
        _check_images(checkpoint)
        from qasir.video.picture import picture_pixels

        check_model(spec)
        pixels = picture_pixels(self.source, spec.image_size, spec.fit)
        vectors, _ = side.texts.vlm().encode_images(pixels[None])
        return vectors[0] if checkpoint is None else checkpoint.model.cell_vectors(vectors)[0]


@dataclass(frozen=True)
class Like:
    """A place in a video of the index, in seconds, to find more like it; its own video is found too."""

    video_id: str
    seconds: float

    @classmethod
    def parse(cls, text: str) -> "Like":
        """VIDEO@SECONDS, split at the last @. Raises QueryError."""
        video_id, at, seconds = text.rpartition("@")
        try:
            if not (at and video_id):
                raise ValueError
            return cls(video_id, float(seconds))
        except ValueError:
            raise QueryError(f"like {text!r}: give a video and seconds, VIDEO@12.5 say") from None

    def __str__(self) -> str:
        return f"{self.video_id}@{self.seconds:g}"

    def vector(self, side: Searched) -> NDArray[np.float32]:
        """Raises UnknownVideoError where there is no such video, QueryError where there is nothing of it there."""
        snapshot, videos = side.vectors.snapshot, side.vectors.videos()
        _check_images(side.texts.checkpoint)
        if self.video_id not in videos.place:
            raise UnknownVideoError(f"like {self}: the index at {snapshot.uri} has no encoded video {self.video_id!r}")
        duration = float(videos.durations_s[videos.place[self.video_id]])
        if not (math.isfinite(self.seconds) and 0.0 <= self.seconds <= duration):
            raise QueryError(f"like {self}: choose seconds from 0 to {duration:g}, where the video ends")
        units = side.vectors.load(finest(snapshot.spec), [self.video_id])
        there = np.flatnonzero((units.start_s <= self.seconds) & (self.seconds <= units.end_s))
        if not len(there) or len(units.features.unusable):
            raise QueryError(f"like {self}: nothing that can be used is stored of that place; choose another")
        return units.features.vectors[there[-1]]


@dataclass(frozen=True)
class Embedded:
    """A part whose vectors are known already: said is what it is in words, vectors {uri of an index: (D,)}."""

    said: str
    vectors: Mapping[str, NDArray[np.float32]] = field(repr=False)

    def __str__(self) -> str:
        return self.said

    def vector(self, side: Searched) -> NDArray[np.float32]:
        """The one for this index."""
        return self.vectors[side.vectors.snapshot.uri]


Part = str | Picture | Like | Embedded
Asked = Part | Sequence[Part]


def parts_of(asked: Asked) -> tuple[Part, ...]:
    """At least one. Raises QueryError."""
    parts = (asked,) if isinstance(asked, Part) else tuple(asked)
    if not parts:
        raise QueryError("nothing to search for: give a text, a picture or a place in a video")
    return parts


def part_vectors(parts: Sequence[Part], side: Searched) -> NDArray[np.float32]:
    """(P, D) L2-normalised, a row each."""
    texts = [part for part in parts if isinstance(part, str)]
    encoded = iter(side.texts.encode(texts) if texts else ())
    return np.stack([next(encoded) if isinstance(part, str) else part.vector(side) for part in parts])


def fused(scores: NDArray[np.float32], vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """((V,) scores, (D,) vector) of parts that have scores (P, V) and vectors (P, D), as this module says."""
    if len(scores) == 1:
        return scores[0], vectors[0]
    usable = np.isfinite(scores).all(axis=0)
    of_parts = standardised(np.where(usable, scores, -np.inf))
    deviation = scores[:, usable].std(axis=1) if usable.any() else np.ones(len(scores))
    weights = 1.0 / np.maximum(deviation, 1e-6)
    return of_parts.mean(axis=0), normalised(((weights / weights.max()) @ vectors)[None])[0]


def _check_images(checkpoint: Checkpoint | None) -> None:
    """Raises QueryError where pictures cannot be compared with super images."""
    if checkpoint is not None and checkpoint.model.temporal is not None:
        raise QueryError(
            f"the fine-tuned checkpoint {checkpoint.folder} has a temporal encoder, which takes the super images of a "
            "video together and no single picture: search by text, or an index without it"
        )
