"""The videos that the page may show: rows of the index, and nothing else on the disk."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class StoredVideo:
    """What an index has of one video. Times in seconds from its first displayed frame.

    media_offset_s: what a player's time is there; None where the index does not say (`qasir.video` can tell).
    """

    video_id: str
    uri: str
    fingerprint: str
    duration_s: float
    width: int | None
    height: int | None
    fps: float | None
    codec: str | None
    modified_at: datetime | None
    recorded_at: datetime | None
    media_offset_s: float | None


class Catalogue(Protocol):
    """Looks videos up by id, as the newest version of an index has them."""

    def video(self, video_id: str, index: int = 0) -> StoredVideo:
        """Of an encoded video. Raises NotFoundError when the index (by number) has none of that id."""
        ...

    def thumbnail(self, video_id: str, at_s: float, index: int = 0) -> bytes:
        """The stored JPEG of the cell or super image there. Raises NotFoundError."""
        ...
