"""From a video's own time to that of a player.

Ours counts from the first displayed frame. A player's time is the file's: HTML has it that a media resource's time line
is kept as it is, so the first frame need not be at 0, where sound begins before the picture for instance. FFmpeg gives
frames their time on that line, edit lists applied, and the first frame's is how far the two are apart, whatever the
times at which the sound or the container begin. Checked against Chromium, which demuxes by FFmpeg too, with MP4, MOV,
Matroska and WebM. A player that counts from where the first of its streams begins, as Firefox does, differs in files
whose sound and picture both begin late.
"""

from collections.abc import Callable

from qasir.video.open_video import open_video


def media_offset_s(uri: str, *, alive: Callable[[], None] = lambda: None) -> float:
    """A player's time at the first displayed frame, in seconds; at our time t it is t more.

    The first frame is decoded and little else read; alive() is called meanwhile, and may raise to end it. Raises
    VideoError.
    """
    with open_video(uri, alive=alive) as video:
        video.read_first()
        assert video.media_offset_s is not None
        return video.media_offset_s
