"""Readers of clips that tests put in the place of the real one. Children import them, so they import little."""

import os
import signal
import sys
import time

from qasir.encoding.alarm import Alarm
from qasir.training.mof.clips import read_clips


def trouble(videos, tiling, n_frames, *, time_limit_s=None, memory_limit=None):
    """Hangs on one video and dies of another."""
    ids = videos["video_id"].to_pylist()
    if "dog" in ids:
        with Alarm(time_limit_s):
            time.sleep(600)
    if "car" in ids:
        os.kill(os.getpid(), signal.SIGSEGV)
    return read_clips(videos, tiling, n_frames, time_limit_s=time_limit_s, memory_limit=memory_limit)


def losing(videos, tiling, n_frames, *, time_limit_s=None, memory_limit=None):
    """Dies of a video unless it is the child of somebody who watches."""
    if "dog" in videos["video_id"].to_pylist() and "ray" in sys.modules:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_clips(videos, tiling, n_frames, time_limit_s=time_limit_s, memory_limit=memory_limit)
