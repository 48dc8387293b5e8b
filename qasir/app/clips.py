"""Clips of videos that a browser cannot show: made once, sent while they are made, kept, and stopped when nobody
listens."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread

from qasir.app.cache import Cache
from qasir.app.children import ended, started
from qasir.app.clip_child import Request
from qasir.app.errors import BusyError, NotFoundError
from qasir.errors import QasirError, StorageError
from qasir.files.readable import printable
from qasir.files.uris import is_remote

log = logging.getLogger(__name__)

_PATIENCE_S = 4.0
"""For one of the clips at work to be finished, before a new one is refused."""
_GRACE_S = 2.0
"""For a client to come back, before a clip that nobody listens to is given up."""
_CHUNK_BYTES = 256 << 10
_NAME = 100
"""Characters of a video's title in the name of a download."""


class ClipError(QasirError):
    """There can be no such clip."""


@dataclass(frozen=True)
class Wanted:
    """A clip by what it is made of: start_ms .. end_ms of version `version` of a file."""

    video_id: str
    uri: str
    version: str
    start_ms: int
    end_ms: int

    @property
    def key(self) -> str:
        return f"clip {self.uri} {self.version} {self.start_ms} {self.end_ms}"


@dataclass
class _Waiters:
    """Tells coroutines of any event loop that there is news, from any thread."""

    _events: dict[asyncio.Event, asyncio.AbstractEventLoop] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def wait(self, is_news: Callable[[], bool]) -> None:
        event = asyncio.Event()
        with self._lock:
            self._events[event] = asyncio.get_running_loop()
        try:
            if not is_news():
                await event.wait()
        finally:
            with self._lock:
                self._events.pop(event, None)

    def tell(self) -> None:
        with self._lock:
            waiting = list(self._events.items())
        for event, loop in waiting:
            with suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(event.set)


class Making:
    """A clip that is being made by a process of its own, for everybody who listens.

    size: bytes that are there. is_over: whether no more will come. is_stopped: whether it was told to end.
    problem: why there is none, or not all of it.
    """

    def __init__(self, wanted: Wanted, cache: Cache, threads: int, when_over: Callable[["Making"], None]) -> None:
        self.wanted = wanted
        self.size = 0
        self.is_over = self.is_stopped = False
        self.problem: QasirError | None = None
        self.n_listeners = 0
        self._cache = cache
        self._threads = threads
        self._when_over = when_over
        self._waiters = _Waiters()
        self._path = cache.partial()
        self._file = open(self._path, "x+b", buffering=0)  # noqa: SIM115  closed when it is over and nobody listens
        self._child = started("qasir.app.clip_child", of_stores=is_remote(wanted.uri))
        threading.Thread(target=self._run, name="clip", daemon=True).start()

    def stop(self) -> None:
        """From any thread; what is there of the clip goes."""
        self.is_stopped = True
        self.problem = self.problem or BusyError(f"{self.wanted.video_id}: the clip was given up: ask again")
        self._child.kill()

    def read(self, start: int, n_bytes: int) -> bytes:
        return os.pread(self._file.fileno(), n_bytes, start)

    def close(self) -> None:
        """When it is over and nobody listens."""
        self._file.close()

    async def news(self, beyond: int) -> None:
        """Waits until there are more bytes than that, or it is over."""
        await self._waiters.wait(lambda: self.size > beyond or self.is_over)

    def _run(self) -> None:
        try:
            self._copy()
            if self.problem is None:
                self._cache.keep(self.wanted.key, self._path)
        except QasirError as error:
            self.problem = self.problem or error
        except OSError as error:
            self.problem = StorageError(f"a clip cannot be written: {error.strerror or error}")
        finally:
            self._end()

    def _copy(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        wanted = self.wanted
        with suppress(BrokenPipeError):
            self._child.stdin.write(Request(wanted.uri, wanted.start_ms, wanted.end_ms, self._threads).to_line())
            self._child.stdin.flush()
        if line := self._first_line():
            _check(json.loads(line), wanted)
        while chunk := os.read(self._child.stdout.fileno(), _CHUNK_BYTES):
            self._write(chunk)
        status = self._child.wait()
        if status and self.problem is None:
            why = "it took too long" if status == -signal.SIGALRM else f"its process ended with status {status}"
            raise ClipError(f"{wanted.video_id}: no clip, or not all of it: {why}")

    def _first_line(self) -> bytes:
        """Read byte by byte, since what comes after it is read past Python's buffer."""
        assert self._child.stdout is not None
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._child.stdout.fileno(), 1)):
            line += byte
        return line

    def _write(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self._cache.most_bytes:
            raise StorageError(f"a clip takes more than the {self._cache.most_bytes:,} bytes of the cache")
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.size += len(chunk)
        self._waiters.tell()

    def _end(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            ended(self._child)
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        if self.problem is not None and self.size:
            log.warning("%s", self.problem)
        self._when_over(self)
        self._waiters.tell()


def _check(head: dict[str, str], wanted: Wanted) -> None:
    if "error" not in head:
        return
    if head["kind"] == "io":
        raise NotFoundError(f"{wanted.video_id}: its file cannot be opened: {head['error']}")
    raise ClipError(f"{wanted.video_id}: no clip from {wanted.start_ms / 1000:.3f} s: {head['error']}")


class Clips:
    """Makes clips, up to `at_once` of them; who wants the same one shares it."""

    def __init__(self, cache: Cache, at_once: int) -> None:
        self._cache = cache
        self._at_once = at_once
        self._threads = min(4, os.cpu_count() or 1)
        self._making: dict[str, Making] = {}
        self._changed = threading.Condition(threading.RLock())
        self._is_closed = False

    def finished(self, wanted: Wanted) -> Path | None:
        return self._cache.found(wanted.key)

    def joined(self, wanted: Wanted) -> Making:
        """The clip being made, a new one if it must be; to be left again. Blocks until it may begin.

        Raises BusyError when it may not for some seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._may_begin(wanted), _PATIENCE_S):
                raise BusyError(f"{self._at_once} clips are being made, and no more are at once: ask again in a second")
            making = self._making.get(wanted.key)
            if making is None:
                if self._is_closed:
                    raise BusyError("the server is ending")
                try:
                    making = Making(wanted, self._cache, self._threads, self._over)
                except OSError as error:
                    raise StorageError(f"no clip can be made: {error.strerror or error}") from None
                self._making[wanted.key] = making
            making.n_listeners += 1
            return making

    def left(self, making: Making) -> None:
        """Give it up some seconds after the last listener did."""
        with self._changed:
            making.n_listeners -= 1
            if making.n_listeners:
                return
            if making.is_over:
                making.close()
            else:
                timer = threading.Timer(_GRACE_S, self._stop_unheard, [making])
                timer.daemon = True
                timer.start()
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            for making in self._making.values():
                making.stop()
            self._changed.wait_for(lambda: not self._making, _PATIENCE_S)

    def _may_begin(self, wanted: Wanted) -> bool:
        same = self._making.get(wanted.key)
        if same is not None:
            return not same.is_stopped
        if self._is_closed or len(self._making) < self._at_once:
            return True
        unheard = next((making for making in self._making.values() if making.n_listeners == 0), None)
        if unheard is not None and not unheard.is_stopped:
            unheard.stop()
        return False

    def _stop_unheard(self, making: Making) -> None:
        with self._changed:
            if making.n_listeners == 0 and not making.is_over:
                making.stop()

    def _over(self, making: Making) -> None:
        with self._changed:
            making.is_over = True
            del self._making[making.wanted.key]
            if making.n_listeners == 0:
                making.close()
            self._changed.notify_all()


def content_disposition(wanted: Wanted) -> str:
    """For a download: a file's name made of the video's and the stretch (RFC 6266)."""
    title = wanted.video_id.rsplit("/", 1)[-1][:_NAME] or "clip"
    name = printable(f"{title} {wanted.start_ms / 1000:.1f}-{wanted.end_ms / 1000:.1f} s.mp4")
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def chunks(making: Making, readers: anyio.CapacityLimiter) -> AsyncIterator[bytes]:
    """The bytes of a clip as they come. Raises its problem when not all of them do."""
    at = 0
    while True:
        if at < making.size:
            wanted = min(_CHUNK_BYTES, making.size - at)
            chunk = await anyio.to_thread.run_sync(making.read, at, wanted, limiter=readers)
            at += len(chunk)
            yield chunk
        elif not making.is_over:
            await making.news(at)
        elif making.problem is not None:
            raise making.problem
        else:
            return
