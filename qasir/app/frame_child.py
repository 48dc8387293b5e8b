"""The process that makes pictures of frames: it decodes files that nobody vouches for, and may die of them.

A request is a line of JSON on stdin, the fields of `Wanted`; the answer on stdout is a line of JSON, {"bytes": n} and
the JPEG, or {"kind", "error"}. The process ends when its stdin does, and so never outlives its parent.
"""

import io
import json
import os
import signal
import sys
from collections import OrderedDict
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from qasir.encoding.alarm import Alarm
from qasir.encoding.memory import DECODE_MEMORY, MemoryLimit
from qasir.errors import VideoError
from qasir.video.footage import Footage, upright_size
from qasir.video.frame_footage import FrameFootage, open_footage
from qasir.video.painter import FramePainter
from qasir.video.super_image import Cell

FRAME_TIMEOUT_S = 20.0
"""For one picture. The process is killed after it."""
_MAX_WIDTH = 2560
_QUALITY = 82
_OPEN = 2
"""Videos that stay open for the next frame."""
_HALF_MS = Fraction(1, 2000)


@dataclass(frozen=True)
class Wanted:
    """The frame on display at `at_ms` of a video, `height` pixels high or as high as it is. `version` changes when the
    file does.

    Half a millisecond is granted: a frame that comes on display at 1/3 s is the one at 333 ms.
    """

    uri: str
    version: str
    at_ms: int
    height: int

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class FrameMaker:
    """Makes JPEGs, and keeps the last videos open."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], Footage | FrameFootage] = OrderedDict()

    def jpeg(self, wanted: Wanted) -> bytes:
        """Raises VideoError."""
        key = (wanted.uri, wanted.version)
        footage = self._open.pop(key, None) or open_footage(wanted.uri)
        try:
            frame = footage.frame_at(Fraction(wanted.at_ms, 1000) + _HALF_MS)
            picture = _jpeg(frame, footage, wanted.height)
        except BaseException:
            footage.close()
            raise
        self._open[key] = footage
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return picture


def _jpeg(frame: VideoFrame, footage: Footage | FrameFootage, height: int) -> bytes:
    width, height = upright_size(frame, footage.pixel_aspect, height, _MAX_WIDTH)
    pixels = np.empty((height, width, 3), np.uint8)
    painter = FramePainter("squash", footage.pixel_aspect, tone_map=True, peak_nits=footage.peak_nits)
    painter.draw(frame, pixels, Cell(0, 0, height, width))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=_QUALITY)
    return out.getvalue()


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints to stdout must not end up among the answers
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent hears of it too, and ends this process
        signal.signal(number, signal.SIG_IGN)
    maker, alarm, memory = FrameMaker(), Alarm(FRAME_TIMEOUT_S), MemoryLimit(DECODE_MEMORY)
    memory.renew()
    for line in sys.stdin.buffer:
        with alarm:
            head, picture = _answer(maker, Wanted(**json.loads(line)))
        try:
            answers.write(json.dumps(head).encode() + b"\n" + picture)
            answers.flush()
        except BrokenPipeError:
            break
    os._exit(0)


def _answer(maker: FrameMaker, wanted: Wanted) -> tuple[dict[str, object], bytes]:
    try:
        picture = maker.jpeg(wanted)
    except VideoError as error:
        return {"kind": error.kind, "error": str(error)}, b""
    return {"bytes": len(picture)}, picture
