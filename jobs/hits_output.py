"""What searching prints: a line for each hit."""

from collections.abc import Sequence
from typing import Protocol

from jobs.console import say


class Shown(Protocol):
    """What is printed of a hit, wherever it comes from."""

    @property
    def video_id(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def start_s(self) -> float: ...

    @property
    def end_s(self) -> float: ...


def print_hits(hits: Sequence[Shown], where: str | None, *, exact: bool) -> None:
    """Best first; of a moment its video's own score too. where: the filter, named when nothing fits it."""
    if not hits:
        say("no video has vectors that can be used" if where is None else f"no video fits the filter {where!r}")
    width = max((len(hit.video_id) for hit in hits), default=0)
    for place, hit in enumerate(hits, start=1):
        moment = f"moment {_clock(hit.start_s)} to {_clock(hit.end_s)}"
        of_video = getattr(hit, "video_score", None)
        video = "" if of_video is None else f"  video {of_video:.3f}"
        say(f"{place:3}  {hit.video_id:{width}}  score {hit.score:.3f}  {moment}{video}")
    if not exact:
        say("from the vector index, which may miss a video; --exact scores all")


def print_left_out(n_videos: int) -> None:
    """Of a hybrid."""
    if n_videos:
        say(f"{n_videos} videos are left out, which the indexes do not both have in the same version")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:d}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes:d}:{rest:04.1f}"
