"""What encoding and scoring cost on an index or two, in GFLOPs. One multiply-add is 2 FLOPs; papers often print
half."""

from dataclasses import dataclass

import numpy as np

from qasir.retrieval.checkpoint import Checkpoint
from qasir.retrieval.methods.method import Method
from qasir.retrieval.searcher import Searcher, Side
from qasir.retrieval.vectors import Features
from qasir.vlm.flops import counted, image_gflops

_TEXT = "a penguin"


@dataclass(frozen=True)
class Cost:
    """GFLOPs: encoding one video of average length, and answering one query (its text and scoring the corpus). Where
    imported features are of a model that is only a label, what encoding cost is not known, and 0 stands for it; where
    queries' features are given, the text is not counted."""

    encoding_per_video: float
    scoring_per_query: float

    @property
    def total(self) -> float:
        return self.encoding_per_video + self.scoring_per_query


def cost(searcher: Searcher, method: Method, text: str = _TEXT) -> Cost:
    """What a method costs on the searcher's indexes. text: any that it can encode.

    Texts that are remembered, and what is loaded, stay as they are; where scoring runs elsewhere, a stand-in of the
    same size is counted.
    """
    n_images = [side.ranker.videos().n_super_images for side in searcher.sides]
    needed = method.encodings(n_images)
    encoding = sum(_encoding(side, float(n.mean())) for side, n in zip(searcher.sides, needed, strict=True))
    rankers = [ranker.counting() for ranker in searcher.rankers]
    for ranker in rankers:
        ranker.videos()

    def answer() -> None:
        method.score([side.texts.encode_anew([text]) for side in searcher.sides], rankers)

    return Cost(encoding, counted(answer))


def _encoding(side: Side, n_images: float) -> float:
    """GFLOPs of encoding a video of so many super images, and of a fine-tuned checkpoint on them."""
    spec = side.index.spec
    each = image_gflops(side.texts.vlm(), spec.grid if spec.cells else None) if spec.has_model else 0.0
    if spec.features:  # each frame was encoded by itself
        each *= spec.frames_per_super_image
    checkpoint = side.texts.checkpoint
    return n_images * each + (0.0 if checkpoint is None else video_side_gflops(checkpoint, round(n_images)))


def video_side_gflops(checkpoint: Checkpoint, n_images: int) -> float:
    """GFLOPs of a fine-tuned checkpoint on the super images of one video."""
    model = checkpoint.model
    one = Features(np.zeros(1, np.int64), np.array([n_images]), np.ones((n_images, model.dim), np.float32))
    return counted(lambda: model.video_vectors(one))
