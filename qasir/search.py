"""Finds moments by text in one index."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qasir.errors import NoIndexError, QueryError
from qasir.index import Index, SuperImageTable
from qasir.prepare import source_of
from qasir.scoring import Scores, Scoring, score
from qasir.vlm import Vlm, check_query


@dataclass(frozen=True)
class Hit:
    """A video, its score (a cosine), and its best moment: the super image most similar to the query, in seconds."""

    video_id: str
    score: float
    start_s: float
    end_s: float


class IndexSearcher:
    """Scores text against an index; super images and the text tower are loaded at the first query and kept."""

    def __init__(self, index: Index) -> None:
        self.index = index

    @cached_property
    def images(self) -> SuperImageTable:
        """Every readable super image. Raises NoIndexError when there is none."""
        images = self.index.super_images()
        if images.n_videos == 0:
            raise NoIndexError(f"the index at {self.index.uri} has no encoded videos")
        return images

    @cached_property
    def vlm(self) -> Vlm:
        return Vlm(source_of(self.index.spec), image_size=self.index.spec.image_size)

    def search(self, text: str, top_k: int = 10, scoring: Scoring | None = None) -> list[Hit]:
        """The `top_k` best videos, best first; fewer when the corpus has fewer."""
        return self.search_many([text], top_k, scoring)[0]

    def search_many(self, texts: Sequence[str], top_k: int = 10, scoring: Scoring | None = None) -> list[list[Hit]]:
        if top_k < 1:
            raise QueryError(f"top-k {top_k}: choose 1 or more")
        scores = self.score(texts, scoring or Scoring())
        order = best_first(scores.values, top_k)
        return [[self.hit(scores, q, int(v)) for v in row] for q, row in enumerate(order)]

    def score(self, texts: Sequence[str], scoring: Scoring) -> Scores:
        """Scores of every text (repeats included) against every video of `images`."""
        for text in texts:
            check_query(text)
        distinct = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(distinct)}
        scores = score(self.vlm.encode_texts(distinct), self.images, scoring)
        rows = [place[text] for text in texts]
        return Scores(scores.values[rows], scores.peaks[rows])

    def hit(self, scores: Scores, query: int, video: int) -> Hit:
        peak = scores.peaks[query, video]
        return Hit(
            self.images.video_ids[video],
            float(scores.values[query, video]),
            float(self.images.start_s[peak]),
            float(self.images.end_s[peak]),
        )


def open_index(uri: str) -> IndexSearcher:
    """Open an index for searching. Raises NoIndexError when there is none at `uri`."""
    return IndexSearcher(Index.open(uri))


def best_first(values: NDArray[np.float32], top_k: int) -> NDArray[np.int64]:
    """(Q, min(top_k, V)) videos by falling score; equal scores keep the order of video ids."""
    return np.argsort(-values, axis=1, kind="stable")[:, :top_k]
