"""The process that makes one clip: it decodes a file that nobody vouches for, and may die of it.

The request is a line of JSON on stdin, the fields of `Request`; the answer on stdout is a line of JSON, {} or
{"kind", "error"}, and then the clip as it is made. The process ends when its stdin does, and so never outlives whoever
asked; it is killed by SIGALRM when it makes no progress.
"""

import json
import logging
import os
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from fractions import Fraction

from qasir.encoding.alarm import Alarm
from qasir.encoding.memory import DECODE_MEMORY, MemoryLimit
from qasir.errors import VideoError
from qasir.files.readable import OneLineFormatter
from qasir.video.clip import write_clip

STALLED_S = 30.0
"""Without a new picture."""
_ENCODER_MEMORY = 512 << 20
_NICENESS = 5
"""Searching goes first."""


@dataclass(frozen=True)
class Request:
    """start_ms .. end_ms of a video; threads for decoding and encoding."""

    uri: str
    start_ms: int
    end_ms: int
    threads: int

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class _Out:
    """Says that all is well before the first byte."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self.has_begun = False

    def write(self, data: bytes) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._write_all(b"{}\n")
        self._write_all(data)

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def refuse(self, error: VideoError) -> None:
        self._write_all(json.dumps({"kind": error.kind, "error": str(error)}).encode() + b"\n")


def main() -> None:
    out = _Out(os.dup(1))
    os.dup2(2, 1)  # whatever prints to stdout must not end up in the clip
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent hears of it too, and ends this process
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    _log_safely()
    request = Request(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    alarm, memory = Alarm(STALLED_S), MemoryLimit(DECODE_MEMORY + _ENCODER_MEMORY)
    memory.renew()
    try:
        with alarm:
            _make(request, out, alarm)
    except BrokenPipeError:
        pass
    os._exit(0)


def _make(request: Request, out: _Out, alarm: Alarm) -> None:
    start_s, end_s = Fraction(request.start_ms, 1000), Fraction(request.end_ms, 1000)
    try:
        write_clip(request.uri, start_s, end_s, out, threads=request.threads, alive=alarm.set)
        if not out.has_begun:
            raise VideoError("no_frames", "the video ends before")
    except VideoError as error:
        if out.has_begun:
            logging.warning("%s: the clip ends early: %s", request.uri, error)
        else:
            out.refuse(error)


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _log_safely() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
