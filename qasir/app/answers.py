"""What the API answers a search with; `qasir.app.search_api` fills it in.

Times in seconds from a video's first displayed frame; a player's time is that plus media_offset_s. Addresses are
relative to the page's root.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """A stored cell or super image of a moment. fit: its score from the corpus' mean (0) to the answer's best
    (1)."""

    at_s: float
    start_s: float
    end_s: float
    fit: float
    score: float
    thumbnail: str | None
    placeholder: str | None


@dataclass(frozen=True)
class SearchHit:
    """A video with its best moment, or a moment. at_s: the middle of its best unit. video_score: of a moment, its
    video's. problem: why the file cannot be shown; then thumbnail and media are null."""

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
    above_cutoff: bool
    problem: str | None
    placeholder: str | None
    frames: list[Frame]


@dataclass(frozen=True)
class Cutoff:
    """Hits that score less fit no better than what does not fit does."""

    score: float
    explained: str


@dataclass(frozen=True)
class SearchAnswer:
    """exact: false where the vector index named candidates, which may miss some. left_out: videos that only one of two
    indexes has. version: of the index's table `videos`."""

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
