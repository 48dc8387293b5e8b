"""Pictures of the frame on display at any second of a video, made by a few watched processes."""

import json
import math
import signal
import subprocess
import threading
import time

from qasir.app.catalogue import StoredVideo
from qasir.app.children import ended, started
from qasir.app.errors import BusyError, NotFoundError
from qasir.app.frame_child import Wanted
from qasir.errors import QasirError, VideoError
from qasir.files.uris import is_remote

_DEADLY_S = 300.0
"""For so long a version of a file is left alone that a process died of: its pictures would keep all of them busy."""


class Frames:
    """Makes JPEGs in up to `processes` processes, each started when it is first needed and anew when a file killed it.

    A process and not a thread, although the index holds only what was decoded once: a file may have changed since, a
    decoder that crashes would take the server along, and one that hangs cannot be stopped in a thread.
    """

    def __init__(self, processes: int) -> None:
        self._idle: list[_Painter | None] = [None] * processes
        self._free = threading.Condition()
        self._deadly: dict[tuple[str, str], tuple[float, VideoError]] = {}
        self._is_closed = False

    def jpeg(self, video: StoredVideo, version: str, at_ms: int, height: int) -> bytes:
        """Blocks while all processes are at work. Raises NotFoundError when the file is gone, QasirError when there is
        no picture there."""
        try:
            return self._made(Wanted(video.uri, version, at_ms, height))
        except VideoError as error:
            if error.kind == "io":
                raise NotFoundError(f"{video.video_id}: its file cannot be opened: {error}") from None
            raise QasirError(f"{video.video_id}: no picture at {at_ms / 1000:.3f} s: {error}") from None

    def _made(self, wanted: Wanted) -> bytes:
        key, now = (wanted.uri, wanted.version), time.monotonic()
        since, problem = self._deadly.get(key, (-math.inf, None))
        if problem is not None and now - since < _DEADLY_S:
            raise problem.with_traceback(None)
        painter = self._taken(wanted.uri)
        try:
            return painter.jpeg(wanted)
        except VideoError as error:
            if not painter.is_alive:
                self._deadly = {key: each for key, each in self._deadly.items() if now - each[0] < _DEADLY_S}
                self._deadly[key] = (now, error)
            raise
        finally:
            self._give_back(painter)

    def _taken(self, uri: str) -> "_Painter":
        """A process, if possible the one that has the video open."""
        with self._free:
            self._free.wait_for(lambda: self._idle or self._is_closed)
            if self._is_closed:
                raise BusyError("the server is ending")
            suited = [each for each in self._idle if each is not None and each.last_uri == uri]
            chosen = suited[0] if suited else self._idle[-1]
            self._idle.remove(chosen)
        of_stores = is_remote(uri)
        if chosen is not None and chosen.of_stores != of_stores:
            chosen.close()
            chosen = None
        return chosen or _Painter(of_stores=of_stores)

    def _give_back(self, painter: "_Painter") -> None:
        with self._free:
            if self._is_closed:
                painter.close()
            else:
                self._idle.append(painter if painter.is_alive else None)
                self._free.notify()

    def close(self) -> None:
        with self._free:
            self._is_closed = True
            for painter in filter(None, self._idle):
                painter.close()
            self._idle.clear()
            self._free.notify_all()


class _Painter:
    """One process; used by one thread at a time. of_stores: it reads from object stores, else files of this machine."""

    def __init__(self, *, of_stores: bool) -> None:
        self._child = started("qasir.app.frame_child", of_stores=of_stores)
        self.of_stores = of_stores
        self.is_alive = True
        self.last_uri: str | None = None

    def jpeg(self, wanted: Wanted) -> bytes:
        """Raises VideoError."""
        self.last_uri = wanted.uri
        try:
            head, picture = _asked(self._child, wanted)
        except (OSError, EOFError, ValueError):
            self.is_alive = False
            raise _death(ended(self._child)) from None
        if "error" in head:
            raise VideoError(head["kind"], head["error"])
        return picture

    def close(self) -> None:
        self.is_alive = False
        ended(self._child)


def _asked(child: "subprocess.Popen[bytes]", wanted: Wanted) -> tuple[dict[str, str], bytes]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(wanted.to_line())
    child.stdin.flush()
    line = child.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    n_bytes = int(head.get("bytes", 0))
    picture = child.stdout.read(n_bytes)
    if len(picture) < n_bytes:
        raise EOFError
    return head, picture


def _death(status: int) -> VideoError:
    if status == -signal.SIGALRM:
        return VideoError("timed_out", "decoding it took too long")
    return VideoError("crashed", f"the process that decoded it ended with status {status}")
