"""A catalogue of a few files, as an index would give it."""

from collections.abc import Mapping
from pathlib import Path

from qasir.app.catalogue import StoredVideo
from qasir.app.errors import NotFoundError
from qasir.video.lookup import current_fingerprint


class FileCatalogue:
    """Videos by id: a path or URI. `duration_s` is what the index says of each."""

    def __init__(self, uris: Mapping[str, str | Path], duration_s: float = 3.0, thumbnail: bytes = b"jpeg") -> None:
        self.uris = {video_id: str(uri) for video_id, uri in uris.items()}
        self.fingerprints = {video_id: current_fingerprint(uri) for video_id, uri in self.uris.items()}
        self.duration_s = duration_s
        self._thumbnail = thumbnail

    def video(self, video_id: str, index: int = 0) -> StoredVideo:
        if index or video_id not in self.uris:
            raise NotFoundError(f"no video {video_id!r} in index {index}")
        return StoredVideo(
            video_id, self.uris[video_id], self.fingerprints[video_id], self.duration_s, 64, 48, 25.0, "h264", None,
            None, 0.0,
        )  # fmt: skip

    def thumbnail(self, video_id: str, at_s: float, index: int = 0) -> bytes:
        self.video(video_id, index)
        return self._thumbnail
