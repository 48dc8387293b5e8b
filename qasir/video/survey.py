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

from qasir.video.lookahead import Inexact, are_made_up
from qasir.video.opening import packets_until


@dataclass(frozen=True)
class Survey:
    """Timestamps in the stream's ticks, ascending.

    shown: of all frames that packets announce. keys: of those among them that are keyframes. hidden: of keyframes that
    an edit list hides. step: how long the last frame lasts, 0 where the file does not say.
    """

    shown: NDArray[np.int64]
    keys: NDArray[np.int64]
    hidden: NDArray[np.int64]
    step: int


def survey(
    container: Any, stream: VideoStream, *, n_packets: int = 0, alive: Callable[[], None] = lambda: None
) -> Survey:
    """All packets of a stream, from where the container stands: its beginning. n_packets: how many there must be at
    least. Raises `Inexact` where timestamps are missing, occur twice or are made up, or packets are damaged or too
    few."""
    if are_made_up(container, stream):
        raise Inexact("timestamps are in the order of decoding")
    shown, keys, hidden = array("q"), array("q"), array("q")  # a day of video has millions
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
            newest = packet
            if packet.is_keyframe:
                (hidden if packet.is_discard else keys).append(pts)
            if not packet.is_discard:
                shown.append(pts)
                if last is None or pts > last:
                    last, step = pts, packet.duration or 0
    except av.error.FFmpegError as error:
        raise Inexact(str(error)) from None
    if packets_until(container, n_read, newest) < n_packets:
        raise Inexact("fewer packets than stated")
    if not shown:
        raise Inexact("no packets")
    times = _sorted(shown)
    steps = np.diff(times)
    if (steps == 0).any():
        raise Inexact("two frames at one time")
    return Survey(times, _sorted(keys), _sorted(hidden), step or (int(steps[-1]) if len(steps) else 0))


def _sorted(ticks: "array[int]") -> NDArray[np.int64]:
    return np.sort(np.frombuffer(ticks, np.int64))
