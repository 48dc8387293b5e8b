"""What MOF trains and validates on: videos with the queries about them, and how well a model finds the one by the
other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qasir.errors import QueryError
from qasir.evaluation.metrics import target_ranks
from qasir.evaluation.query import Query
from qasir.index.ragged import numbered
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.scoring import score
from qasir.retrieval.vectors import Features
from qasir.training.mof.clip_table import ClipTable
from qasir.training.mof.clips import spread
from qasir.training.mof.pixels import PixelScale
from qasir.training.mof.trainable import RetrievalModel
from qasir.video.corpus import Corpus
from qasir.vlm.model import Vlm

_ENCODED_TOGETHER = 32

Frames = Callable[[Sequence[str]], Tensor]
"""Ids of B videos -> (B, k, 3, S, S) frames in normalised pixels, as many of each."""


@dataclass(frozen=True)
class Captioned:
    """Videos and the queries about them."""

    corpus: Corpus
    queries: Sequence[Query]


class Material:
    """The clips of a set of videos and the queries about them. Raises QueryError when no query is about one of the
    videos."""

    def __init__(self, clips: ClipTable, queries: Sequence[Query], scale: PixelScale) -> None:
        self.clips = clips
        self.scale = scale
        there = set(clips.video_ids)
        self.queries = [query for query in queries if query.video_id in there]
        self.by_video: dict[str, list[str]] = {}
        for query in self.queries:
            self.by_video.setdefault(query.video_id, []).append(query.text)
        if not self.queries:
            raise QueryError(f"none of the {len(queries)} queries is about one of the {len(there)} videos")
        self.video_ids = sorted(self.by_video)

    def frames(self, video_ids: Sequence[str], k: int) -> Tensor:
        """(B, k, 3, S, S) evenly spaced frames of each video, in normalised pixels."""
        loaded = self.clips.load(video_ids)
        return torch.stack([self.scale.normalise(frames[spread(len(frames), k)]) for frames in loaded])

    def ranks(self, vlm: Vlm, frames: Frames, scoring: Pooled) -> NDArray[np.int64]:
        """(Q,) the rank of each query's video among these, by the model's vectors of their frames."""
        model = RetrievalModel(vlm.module)
        parts = []
        with torch.no_grad():
            for some in chunks(self.video_ids, _ENCODED_TOGETHER):
                _, images = model(None, frames(some).to(vlm.device))
                parts.append(images.float().cpu().numpy())
        vectors = np.concatenate(parts)
        n_videos, k, dim = vectors.shape
        features = Features(np.arange(n_videos) * k, np.full(n_videos, k), vectors.reshape(-1, dim))
        texts = vlm.encode_texts([query.text for query in self.queries])
        place = numbered(self.video_ids)
        target = np.array([place[query.video_id] for query in self.queries])
        return target_ranks(score(texts, features, scoring), target)


def chunks(items: Sequence[str], size: int) -> list[list[str]]:
    """The items in order, so many together; the last may be fewer."""
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
