"""The addresses of what belongs to a video, relative to the page's root."""

from functools import lru_cache
from urllib.parse import quote


def media(video_id: str, index: int = 0) -> str:
    """The file itself."""
    return f"media/{_quoted(video_id)}" + (f"?index={index}" if index else "")


def frame(video_id: str, at_s: float, index: int = 0) -> str:
    """The frame on display at a time, from the file."""
    return f"frames/{_at(video_id, at_s, index)}"


def thumbnail(video_id: str, at_s: float, index: int = 0) -> str:
    """The small picture of a time, from the index."""
    return f"thumbnails/{_at(video_id, at_s, index)}"


def _at(video_id: str, at_s: float, index: int) -> str:
    seconds = f"{at_s:.3f}".rstrip("0").rstrip(".")
    return f"{_quoted(video_id)}?at={seconds}" + (f"&index={index}" if index else "")


@lru_cache(4096)
def _quoted(video_id: str) -> str:
    """As one part of a path."""
    return quote(video_id, safe="", errors="surrogatepass")
