"""The addresses of what belongs to a video, relative to the page's root."""

from urllib.parse import quote, urlencode


def media(video_id: str, index: int = 0) -> str:
    """The file itself."""
    return _link("media", video_id, index)


def frame(video_id: str, at_s: float, index: int = 0) -> str:
    """The frame on display at a time, from the file."""
    return _link("frames", video_id, index, at=_seconds(at_s))


def thumbnail(video_id: str, at_s: float, index: int = 0) -> str:
    """The small picture of a time, from the index."""
    return _link("thumbnails", video_id, index, at=_seconds(at_s))


def _link(kind: str, video_id: str, index: int, **query: str) -> str:
    if index:
        query["index"] = str(index)
    return f"{kind}/{quote(video_id, safe='')}" + (f"?{urlencode(query)}" if query else "")


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
