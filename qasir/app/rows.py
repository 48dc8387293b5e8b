"""What answers say of single videos: rows of `videos`, kept in memory and looked up by id."""

from bisect import bisect_left
from datetime import datetime
from typing import Any

import pyarrow as pa

from qasir.app.catalogue import StoredVideo
from qasir.index.snapshot import IS_ENCODED, Snapshot

_COLUMNS = {
    "video_id": pa.large_string(),
    "uri": pa.large_string(),
    "fingerprint": pa.large_string(),
    "duration_s": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "fps": pa.float64(),
    "codec": pa.string(),
    "modified_at": pa.timestamp("us", tz="UTC"),
    "recorded_at": pa.timestamp("us", tz="UTC"),
    "media_offset_s": pa.float64(),
}
"""Offsets of 32 bits end at 2 GiB of ids."""


class VideoRows:
    """The encoded videos of a snapshot, about 200 bytes each."""

    def __init__(self, snapshot: Snapshot) -> None:
        found = snapshot.videos(list(_COLUMNS), IS_ENCODED).sort_by("video_id")
        self._rows = found.cast(pa.schema(_COLUMNS.items())).combine_chunks()
        self._ids = self._rows["video_id"]
        self._met: dict[int, StoredVideo] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, video_id: str) -> StoredVideo | None:
        """None when there is no encoded video of that id."""
        at = bisect_left(range(len(self)), video_id, key=lambda row: self._ids[row].as_py())
        if at == len(self) or self._ids[at].as_py() != video_id:
            return None
        if at not in self._met:
            row: dict[str, Any] = {name: self._rows[name][at].as_py() for name in _COLUMNS}
            self._met[at] = StoredVideo(**{**row, "duration_s": row["duration_s"] or 0.0})
        return self._met[at]

    def of_hit(self, video_id: str, uri: str) -> StoredVideo:
        """That of a hit; of one that this index does not have encoded, only what the hit says."""
        return self.get(video_id) or StoredVideo(video_id, uri, "", 0.0, *[None] * 7)


def date_of(recorded_at: datetime | None, modified_at: datetime | None) -> tuple[datetime | None, str | None]:
    """(when, "recorded" or "modified") of a video: when it was recorded if that is known, else when its file was last
    changed."""
    if recorded_at is not None:
        return recorded_at, "recorded"
    return modified_at, None if modified_at is None else "modified"
