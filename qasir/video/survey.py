"""Reads the times of a video's frames from its packets, without decoding any."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av.error
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from qasir.video.lookahead import Inexact
from qasir.video.opening import packets_until


@dataclass(frozen=True)
class Survey:
    """Timestamps in the stream's ticks, ascending.

    shown: of all frames that packets announce. keys: of keyframes, among them those that an edit list hides. step: how
    long the last frame lasts, 0 where the file does not say. begins_plainly: whether the file begins with the keyframe
    that is displayed first; else only decoding tells which frame is the first to be displayed.
    """

    shown: NDArray[np.int64]
    keys: NDArray[np.int64]
    step: int
    begins_plainly: bool


def survey(container: Any, stream: VideoStream, *, alive: Callable[[], None] = lambda: None) -> Survey:
    """All packets of a stream, from where the container stands: its beginning. Raises `Inexact` where timestamps are
    missing or occur twice, or packets are damaged or too few."""
    shown, keys = array("q"), array("q")  # a day of video has millions
    head: Packet | None = None
    newest: Packet | None = None
    last, step, n_read = None, 0, 0
    try:
        for packet in container.demux(stream):
            alive()
            if packet.size == 0:
                continue
            pts = packet.pts
            if pts is None or packet.is_corrupt:
                raise Inexact("a packet without a timestamp, or a damaged one")
            n_read += 1
            head, newest = head or packet, packet
            if packet.is_keyframe:
                keys.append(pts)
            if not packet.is_discard:
                shown.append(pts)
                if last is None or pts > last:
                    last, step = pts, packet.duration or 0
    except av.error.FFmpegError as error:
        raise Inexact(str(error)) from None
    if packets_until(container, n_read, newest) < stream.frames:
        raise Inexact("fewer packets than stated")
    if head is None or not shown:
        raise Inexact("no packets")
    times = np.sort(np.frombuffer(shown, np.int64))
    steps = np.diff(times)
    if (steps == 0).any():
        raise Inexact("two frames at one time")
    plainly = head.is_keyframe and not head.is_discard and head.pts == times[0]
    return Survey(times, np.sort(np.frombuffer(keys, np.int64)), step or (int(steps[-1]) if len(steps) else 0), plainly)
