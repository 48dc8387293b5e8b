"""Reads the times of a video's frames from its packets, without decoding any."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from qasir.video.lookahead import Inexact
from qasir.video.opening import packets_until


@dataclass(frozen=True)
class Survey:
    """Timestamps in the stream's ticks, ascending.

    shown: of all frames that packets announce. keys: of keyframes, among them those that an edit list hides. step: how
    long the last frame lasts, 0 where the file does not say. begins_plainly: whether the file begins with the keyframe
    that is displayed first; else only decoding tells which frame is the first to be displayed.
    """

    shown: list[int]
    keys: list[int]
    step: int
    begins_plainly: bool


def survey(container: Any, stream: VideoStream, *, alive: Callable[[], None] = lambda: None) -> Survey:
    """All packets of a stream, from where the container stands: its beginning. Raises `Inexact` where timestamps are
    missing or occur twice, or packets are damaged or too few."""
    shown: list[int] = []
    keys: list[int] = []
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
    shown.sort()
    keys.sort()
    if any(a == b for a, b in pairwise(shown)):
        raise Inexact("two frames at one time")
    plainly = head.is_keyframe and not head.is_discard and head.pts == shown[0]
    return Survey(shown, keys, step or (shown[-1] - shown[-2] if len(shown) > 1 else 0), plainly)
