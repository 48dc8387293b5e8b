"""What encoding and scoring cost on an index or two, in GFLOPs. One multiply-add is 2 FLOPs; papers often print half."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from qasir.retrieval.hybrid import Cascade, Fusion, HybridSearcher
from qasir.retrieval.scoring import Scoring
from qasir.retrieval.searcher import IndexSearcher, Searcher
from qasir.retrieval.vectors import Features
from qasir.vlm.flops import counted, image_gflops


@dataclass(frozen=True)
class Cost:
    """GFLOPs: encoding one video of average length, and answering one query (its text and scoring the corpus)."""

    encoding_per_video: float
    scoring_per_query: float

    @property
    def total(self) -> float:
        return self.encoding_per_video + self.scoring_per_query


def cost(searcher: Searcher[Any], method: Any, text: str = "a penguin") -> Cost:
    """What a method costs on an index or two. In a cascade both models encode every video, since both indexes are there."""
    if isinstance(searcher, HybridSearcher):
        assert isinstance(method, Fusion | Cascade)
        large, small = cost(searcher.large, method.large, text), cost(searcher.small, method.small, text)
        _forget(searcher.large, searcher.small)
        scoring = counted(lambda: searcher.score([text], method))
        return Cost(large.encoding_per_video + small.encoding_per_video, scoring)
    assert isinstance(searcher, IndexSearcher)
    spec = searcher.index.spec
    n_images = searcher.videos.n_super_images
    if isinstance(method, Scoring) and method.sparse_grid:
        n_images = -(-n_images // method.sparse_grid**2)
    each = image_gflops(searcher.vlm, spec.grid if spec.cells else None)
    tuning = video_side_gflops(searcher, round(float(n_images.mean())))
    _forget(searcher)
    return Cost(float(n_images.mean()) * each + tuning, counted(lambda: searcher.score([text], method)))


def video_side_gflops(searcher: IndexSearcher, n_images: int) -> float:
    """GFLOPs of a fine-tuned checkpoint on the super images of one video; 0 without one."""
    if searcher.finetuned is None:
        return 0.0
    model = searcher.finetuned.model
    one = Features(np.zeros(1, np.int64), np.array([n_images]), np.ones((n_images, model.dim), np.float32))
    return counted(lambda: model.video_vectors(one))


def _forget(*searchers: IndexSearcher) -> None:
    """Texts already encoded would not be counted."""
    for searcher in searchers:
        searcher.forget_texts()
