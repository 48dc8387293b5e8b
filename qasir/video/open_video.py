"""Opens a video to be sampled, whatever it is."""

from collections.abc import Callable

from qasir.video.container import Video
from qasir.video.frame_folder import FrameFolder
from qasir.video.frames_uri import FramesUri

SampledVideo = Video | FrameFolder
"""A file, or a folder of numbered pictures."""


def open_video(uri: str, *, alive: Callable[[], None] = lambda: None) -> SampledVideo:
    """alive() is called as it is read. Raises VideoError."""
    return Video(uri, alive=alive) if FramesUri.parse(uri) is None else FrameFolder(uri, alive=alive)
