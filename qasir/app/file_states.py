"""What can be said of videos' files in a short time: whether they are still there and the ones that were indexed, and
where a player's time begins.

Local files are looked at whenever they are asked for. Files on object stores are looked up many at once; what was found
is kept for a minute, and a file of which nothing is known in time counts as there. Where an index does not say what a
player's time is at the first frame, the file does, once: its first frame is decoded.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from qasir.app.catalogue import StoredVideo
from qasir.errors import QasirError
from qasir.files.stores import Stores
from qasir.files.uris import is_remote
from qasir.video.lookup import current_fingerprint
from qasir.video.media_time import media_offset_s
from qasir.video.video_file import MISSING, UNREACHABLE, is_same_version

GONE = "the file is gone"
CHANGED = "the file changed since it was encoded"
_THREADS = 16
_PATIENCE_S = 0.3
"""How long an answer waits for object stores."""
_OFFSET_PATIENCE_S = 3.0
"""And for first frames, without which a player would be at the wrong place."""
_KEPT_S = 60.0
_MOST = 1 << 16


@dataclass(frozen=True)
class FileState:
    """problem: why a file cannot be shown, or may show something else; media_offset_s: a player's time at its first
    displayed frame, in seconds."""

    problem: str | None
    media_offset_s: float

    @property
    def is_there(self) -> bool:
        """Whether there is a file to show."""
        return self.problem != GONE


class FileStates:
    """Looks at files. Closed by `close`."""

    def __init__(self) -> None:
        self._stores = Stores(connections=_THREADS)
        self._pool = ThreadPoolExecutor(_THREADS, "files")
        self._there = _Remembered(self._pool, _KEPT_S)
        self._offsets = _Remembered(self._pool)

    def close(self) -> None:
        """What is under way is waited for by nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def of(self, videos: Sequence[StoredVideo]) -> list[FileState]:
        """In their order. Raises nothing."""
        uris = dict.fromkeys(video.uri for video in videos)
        remote = [uri for uri in uris if is_remote(uri)]
        found: dict[Hashable, str] = {uri: self._fingerprint(uri) for uri in uris if not is_remote(uri)}
        found |= self._there.of([(uri, uri) for uri in remote], self._fingerprint, _PATIENCE_S)
        problems = [_problem(video, found.get(video.uri, UNREACHABLE)) for video in videos]
        unknown = {
            (video.uri, video.fingerprint): video.uri
            for video, problem in zip(videos, problems, strict=True)
            if video.media_offset_s is None and problem != GONE
        }
        offsets = self._offsets.of(unknown.items(), _offset, _OFFSET_PATIENCE_S)
        return [
            FileState(problem, video.media_offset_s or offsets.get((video.uri, video.fingerprint)) or 0.0)
            for video, problem in zip(videos, problems, strict=True)
        ]

    def _fingerprint(self, uri: str) -> str:
        try:
            return current_fingerprint(uri, self._stores)
        except OSError:  # nobody can say
            return UNREACHABLE


def _problem(video: StoredVideo, fingerprint: str) -> str | None:
    """fingerprint: of the file as it is now; an empty file is none any more."""
    if fingerprint == MISSING or fingerprint.startswith("0-"):
        return GONE
    if fingerprint == UNREACHABLE or not video.fingerprint:
        return None
    return None if is_same_version(video.uri, fingerprint, video.fingerprint) else CHANGED


def _offset(uri: str) -> float | None:
    """None where the file does not say, or cannot be reached now."""
    try:
        return media_offset_s(uri)
    except (QasirError, OSError):
        return None


class _Remembered:
    """Answers that take long, kept for some seconds, or as long as there is room; None, which is no answer, never
    longer than _KEPT_S."""

    def __init__(self, pool: ThreadPoolExecutor, kept_s: float = math.inf) -> None:
        self._pool = pool
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[float, Future[Any]]] = OrderedDict()

    def of(
        self, asked: Iterable[tuple[Hashable, str]], find: Callable[[str], Any], patience_s: float
    ) -> dict[Hashable, Any]:
        """{key: answer} of (key, what to find) as far as there are answers in time; the others are there for who asks
        later."""
        futures = {key: self._future(key, what, find) for key, what in asked}
        wait(futures.values(), patience_s)
        return {key: future.result() for key, future in futures.items() if future.done()}

    def _future(self, key: Hashable, what: str, find: Callable[[str], Any]) -> "Future[Any]":
        now = time.monotonic()
        with self._lock:
            known = self._known.get(key)
            if known is None or (known[1].done() and now - known[0] > self._kept(known[1].result())):
                self._known[key] = known = now, self._pool.submit(find, what)
                self._known.move_to_end(key)
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
            return known[1]

    def _kept(self, answer: Any) -> float:
        return min(self._kept_s, _KEPT_S) if answer is None else self._kept_s
