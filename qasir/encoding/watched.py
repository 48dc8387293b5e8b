"""Decodes in a child process, which may hang or die of a file without harm to this one."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO

import pyarrow as pa

from qasir.encoding.child import ANSWER, DONE, READY, REPORTS, SEGMENTS, TILES, Call, Cut, DecodeRequest, Task
from qasir.encoding.decode import Decoded
from qasir.encoding.rows import REPORT_SCHEMA, TILE_SCHEMA, whole_video
from qasir.errors import QasirError

_ENDING_S = 10.0
_LAST_LINE = 300
_LAST_WORDS, _NO_MEMORY = 3, ("MemoryError", "std::bad_alloc")
"""Of a process whose own work, and not its decoder, was refused memory under the limit: Python's or a C++ library's."""
_RUN = "from qasir.encoding.child import main; main()"


@dataclass(frozen=True)
class Death:
    """How a process that decoded one video ended: a kind of `qasir.errors.ERROR_KINDS` and a message."""

    kind: str
    message: str


class _Died(Exception):
    """The child is gone."""


class WatchedDecoder:
    """Cuts and decodes in one child, which is started anew after each file that it died of. To be closed from any
    thread.

    stderr: where the child's goes; None is this process's own.
    """

    def __init__(self, task: Task, stderr: IO[bytes] | None = None) -> None:
        self._task = task
        self._stderr = stderr
        self._status: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def __enter__(self) -> "WatchedDecoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._child is not None:
            _ended(self._child)

    def close(self) -> None:
        """End the child; whoever still reads from it gets no more."""
        self._is_closed = True
        child = self._child  # which another thread may be replacing
        if child is not None:
            child.kill()

    def status_after(self, segments: pa.Table) -> int:
        """0 when these segments decode, or fail to, without harm; else the exit status of the child that they ended."""
        try:
            for _ in self._ask(DecodeRequest(segments)):
                pass
        except _Died:
            assert self._status is not None
            return self._status
        return 0

    def cut(self, plan: pa.Table) -> pa.Table:
        """Plan rows -> segments. A video whose opening kills the child is one, and what is wrong with it shows when it
        is decoded."""
        tables = []
        for row in plan.to_pylist():
            try:
                tables += [rows for _, rows in self._ask(Cut(pa.Table.from_pylist([row], schema=plan.schema)))]
            except _Died:
                tables.append(whole_video(row))
        return pa.concat_tables(tables)

    def decode(self, segments: pa.Table) -> Iterator[Decoded]:
        """As `decode_segments`; of a video that the child died of, nothing more comes."""
        deadly: set[str] = set()
        for row in range(len(segments)):
            segment = segments.slice(row, 1)
            video_id = segment["video_id"][0].as_py()
            if video_id in deadly:
                continue
            try:
                for letter, rows in self._ask(DecodeRequest(segment)):
                    if letter == TILES:
                        yield Decoded(rows, REPORT_SCHEMA.empty_table())
                    else:
                        yield Decoded(TILE_SCHEMA.empty_table(), rows)
            except _Died:
                if self._is_closed:
                    return
                deadly.add(video_id)

    def call(self, function: Callable[[], Iterator[pa.Table]]) -> list[pa.Table] | None:
        """The tables that a function gives in the child; None where that died of it."""
        try:
            return [table for _, table in self._ask(Call(function))]
        except _Died:
            return None

    def _ask(self, request: Cut | DecodeRequest | Call) -> Iterator[tuple[bytes, pa.Table]]:
        if self._is_closed:
            raise _Died
        if self._child is None:
            self._child = self._started()
        try:
            _send(self._child, request)
            while (letter := _letter(self._child)) != DONE:
                yield letter, _rows(self._child)
        except _Died:
            assert self._child is not None
            self._status = _ended(self._child)
            self._child = None
            raise

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", _RUN]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=_environment()
        )
        try:
            _send(child, self._task)
            if _letter(child) != READY:
                raise _Died
        except _Died:
            raise QasirError(
                f"the decoding process cannot start: it ended with status {_ended(child)}, and said why on stderr"
            ) from None
        if self._is_closed:
            child.kill()
        return child


def death_of(segments: pa.Table, task: Task) -> Death | None:
    """Decode these segments in a child of their own; None when it does not die of them."""
    with TemporaryFile() as stderr, WatchedDecoder(task, stderr) as decoder:
        status = decoder.status_after(segments)
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines() or [""]
    if status == 0:
        return None
    if status == -signal.SIGALRM:
        return Death("timed_out", f"decoding made no progress for {task.options.decode_timeout_s} s")
    if any(sign in line for line in lines[-_LAST_WORDS:] for sign in _NO_MEMORY):
        return Death("too_large", "decoding takes more memory than a decoder may have; its process ended of it")
    if status < 0:
        return Death("crashed", f"the process that decodes it dies of {signal.Signals(-status).name}")
    return Death("crashed", f"the process that decodes it exits with status {status}: {lines[-1][:_LAST_LINE]}")


def _environment() -> dict[str, str]:
    """A child's: it imports what this process can, without importing or running the user's script."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _send(child: "subprocess.Popen[bytes]", thing: object) -> None:
    assert child.stdin is not None
    try:
        pickle.dump(thing, child.stdin)
        child.stdin.flush()
    except OSError:
        raise _Died from None


def _letter(child: "subprocess.Popen[bytes]") -> bytes:
    assert child.stdout is not None
    letter = child.stdout.read(1)
    if letter not in (READY, SEGMENTS, TILES, REPORTS, ANSWER, DONE):
        raise _Died
    return letter


def _rows(child: "subprocess.Popen[bytes]") -> pa.Table:
    assert child.stdout is not None
    try:
        with pa.ipc.open_stream(child.stdout) as stream:
            return stream.read_all()
    except (pa.ArrowInvalid, OSError):  # cut short
        raise _Died from None


def _ended(child: "subprocess.Popen[bytes]") -> int:
    """The exit status of a child that has stopped answering."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        return child.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
