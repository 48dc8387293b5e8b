"""The child of a plain loop: cuts and decodes what its parent asks for.

What is asked comes pickled on stdin, a `Task` first; what is answered goes to stdout as a letter, mostly followed by an
Arrow IPC stream, so that nothing of a child that reads strangers' files is unpickled. The child ends when its stdin
does, and so never outlives its parent.
"""

import logging
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import pyarrow as pa

from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import Decoded
from qasir.encoding.options import EncodeOptions
from qasir.files.readable import OneLineFormatter
from qasir.index.spec import EncoderSpec
from qasir.video.hardware import CPU

READY, SEGMENTS, TILES, REPORTS, ANSWER, DONE = b"+", b"s", b"t", b"r", b"a", b"."


Decode = Callable[..., Iterator[Decoded]]
"""`qasir.encoding.decode.decode_segments`, or what a test puts in its place."""


@dataclass(frozen=True)
class Task:
    """How a child cuts and decodes."""

    decode: Decode
    specs: Sequence[EncoderSpec]
    options: EncodeOptions


def on_cpu(task: Task) -> Task:
    """The same on the CPU, for what a process has died or hung of: a GPU's driver may be to blame, and no file is."""
    return replace(task, options=replace(task.options, decoder=CPU))


@dataclass(frozen=True)
class Cut:
    """A request: cut these plan rows."""

    plan: pa.Table


@dataclass(frozen=True)
class DecodeRequest:
    """A request: decode these segments."""

    segments: pa.Table


@dataclass(frozen=True)
class Call:
    """A request: call this, and answer with the tables that it gives."""

    function: Callable[[], Iterator[pa.Table]]


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints to stdout must not end up among the answers
    _log_safely()
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent hears of it too, and ends this process
        signal.signal(number, signal.SIG_IGN)
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    try:
        task = asked.get()
        _send(answers, READY)
        while True:
            _answer(asked.get(), task, answers)
    except BrokenPipeError:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _log_safely() -> None:
    """What is logged of a file goes to the parent's terminal, which its name must not steer."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _listen(asked: "queue.SimpleQueue[Any]") -> None:
    """Hands on what is asked; ends the process, whatever it is doing, when there is nobody left to ask."""
    try:
        while True:
            asked.put(pickle.load(sys.stdin.buffer))
    except EOFError:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _answer(request: Cut | DecodeRequest | Call, task: Task, answers: IO[bytes]) -> None:
    if isinstance(request, Cut):
        _send(answers, SEGMENTS, cut_videos(request.plan, task.specs, **task.options.cut_limits))
    elif isinstance(request, Call):
        for table in request.function():
            _send(answers, ANSWER, table)
    else:
        for part in task.decode(request.segments, task.specs, **task.options.decode_limits):
            for letter, rows in ((TILES, part.tiles), (REPORTS, part.reports)):
                if len(rows):
                    _send(answers, letter, rows)
    _send(answers, DONE)


def _send(answers: IO[bytes], letter: bytes, rows: pa.Table | None = None) -> None:
    answers.write(letter)
    if rows is not None:
        with pa.ipc.new_stream(answers, rows.schema) as stream:
            stream.write_table(rows)
    answers.flush()
