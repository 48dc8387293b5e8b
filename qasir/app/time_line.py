"""A query over the whole length of one video, for the player."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qasir.app.catalogue import StoredVideo
from qasir.app.units import Units, units_of
from qasir.app.views import View
from qasir.retrieval.asking import Part
from qasir.retrieval.methods.method import Method
from qasir.retrieval.moment_ranking import MomentChoice, RankedMoments


@dataclass(frozen=True)
class TimeLine:
    """Without a query there are units without cosines (None for score and attention), and no moments.

    score: the video's; attention (U,): the weights that the method gives the units; moments: the best ones, of which no
    two overlap.
    """

    view: View
    video: StoredVideo
    granularity: str
    units: Units
    score: float | None = None
    attention: NDArray[np.float32] | None = None
    moments: RankedMoments = field(default_factory=RankedMoments.none)


def time_line(view: View, video: StoredVideo, parts: Sequence[Part], method: Method | None, top_k: int) -> TimeLine:
    """Of a video in a view. A video that is not searched there, since only one of two indexes has it, has no units."""
    searching, video_id = view.searching, video.video_id
    if searching is None or video_id not in searching.searcher.videos().place:
        return TimeLine(view, video, "super-image", Units.none())
    searcher, granularity = searching.searcher, searching.sample.granularity
    if not parts:
        nothing = np.zeros(searcher.side.index.spec.embedding_dim, np.float32)
        (units,) = dict(units_of(searcher.side.vectors, granularity, [video_id], nothing)).values()
        return TimeLine(view, video, granularity, units)
    score, vector = searcher.score_one(parts, video_id, method)
    (units,) = dict(units_of(searcher.side.vectors, granularity, [video_id], vector)).values()
    if not len(units) or not np.isfinite(score):
        return TimeLine(view, video, granularity, units)
    attention = searcher.checked(method).attention(units.cosine, searcher.pointer)
    moments = searcher.moments_in(video_id, vector, MomentChoice(top_k, nms=0.0))
    return TimeLine(view, video, granularity, units, score, attention, moments)
