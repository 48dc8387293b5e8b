"""What the API answers a search with; `qasir.app.presenting` fills it in.

Times in seconds from a video's first displayed frame; a player's time is that plus media_offset_s. Addresses are
relative to the page's root. Both media and thumbnail are null where the file is gone (`problem`), not where it changed
since it was encoded (`problem` too); a placeholder is of the index, and there as long as that is.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frame:
    """A stored cell or super image of a moment. at_s: of the frame that stands for it; score: its cosine to the query;
    fit: that from the corpus' usual (0) to the best frame of the answer (1)."""

    at_s: float
    start_s: float
    end_s: float
    fit: float
    score: float
    thumbnail: str | None
    placeholder: str | None


@dataclass(frozen=True)
class SearchHit:
    """A video with its best moment, or a moment. at_s: of the frame that stands for it; video_score: of a moment, its
    video's score; title: the last part of the id; date: when it was recorded, else when its file was changed last
    (date_kind), ISO 8601; frames: at most 9 of the moment, in time order."""

    video_id: str
    uri: str
    score: float
    start_s: float
    end_s: float
    at_s: float
    media_offset_s: float
    thumbnail: str | None
    media: str | None
    video_score: float | None
    title: str
    date: str | None
    date_kind: str | None
    duration_s: float
    codec: str | None
    width: int | None
    height: int | None
    fps: float | None
    above_cutoff: bool
    problem: str | None
    placeholder: str | None
    frames: list[Frame]


@dataclass(frozen=True)
class Cutoff:
    """The score that chance alone reaches: hits below it may have nothing to do with the query. None is left out."""

    score: float
    explained: str


@dataclass(frozen=True)
class SearchAnswer:
    """exact: false where the vector index named candidates, which may miss some. version: of the index's table
    `videos`; null while the index is being made. left_out: videos that only one of two indexes has. method: how videos
    were ranked, in words, and scoring by name and numbers; null while there is nothing to rank. cutoff: null where
    nothing can be said."""

    query: str
    exact: bool
    by: str
    index: int
    version: int | None
    left_out: int
    took_ms: float
    method: str | None
    cutoff: Cutoff | None
    hits: list[SearchHit]
    scoring: dict[str, Any] | None = None


@dataclass(frozen=True)
class Unit:
    """A stored cell or super image. score: its cosine to the query; attention: its weight, all of which sum to 1. Null
    without a query."""

    start_s: float
    end_s: float
    score: float | None
    attention: float | None


@dataclass(frozen=True)
class Moment:
    start_s: float
    end_s: float
    at_s: float
    score: float


@dataclass(frozen=True)
class MomentsAnswer:
    """A query over the length of one video. score: the video's; units: all of it, in time order; moments: best first,
    none overlapping another."""

    query: str
    video_id: str
    uri: str
    title: str
    duration_s: float
    fps: float | None
    media_offset_s: float
    media: str | None
    thumbnail: str | None
    placeholder: str | None
    problem: str | None
    score: float | None
    granularity: str
    units: list[Unit]
    moments: list[Moment]
