"""Decodes in a child process, which may hang or die of a file without harm to this one."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import pyarrow as pa

from qasir.encoding.alone import environment
from qasir.encoding.child import DONE, READY, REPORTS, SEGMENTS, TILES, Cut, DecodeRequest, Task
from qasir.encoding.decode import Decoded
from qasir.encoding.rows import REPORT_SCHEMA, TILE_SCHEMA, whole_video
from qasir.errors import QasirError

_ENDING_S = 10.0
_RUN = "from qasir.encoding.child import main; main()"


class _Died(Exception):
    """The child is gone."""


class WatchedDecoder:
    """Cuts and decodes in one child, which is started anew after each file that it died of. To be closed from any thread."""

    def __init__(self, task: Task) -> None:
        self._task = task
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
        if self._child is not None:
            self._child.kill()

    def cut(self, plan: pa.Table) -> pa.Table:
        """Plan rows -> segments. A video whose opening kills the child is one, and what is wrong with it shows when it is decoded."""
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

    def _ask(self, request: Cut | DecodeRequest) -> Iterator[tuple[bytes, pa.Table]]:
        if self._is_closed:
            raise _Died
        if self._child is None:
            self._child = self._started()
        try:
            _send(self._child, request)
            while (letter := _letter(self._child)) != DONE:
                yield letter, _rows(self._child)
        except _Died:
            _ended(self._child)
            self._child = None
            raise

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", _RUN]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
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
    if letter not in (READY, SEGMENTS, TILES, REPORTS, DONE):
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
