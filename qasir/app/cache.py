"""Keeps files that were costly to make, within so many bytes of disk."""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "qasir-page-"
_LOCK = "lock"
"""In each folder: locked as long as its process lives."""


class Cache:
    """Files by key in a folder of its own below the system's for temporary files, which nobody else may read and which
    goes with the process, or, if that was killed, when the next one begins. Those that were not asked for the longest
    go first; whoever has one open can read it to its end.
    """

    def __init__(self, most_bytes: int) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
        lock = _locked(self.folder / _LOCK, os.O_CREAT)
        self.close = weakref.finalize(self, _remove, self.folder, lock)
        self.most_bytes = most_bytes
        self._sizes: OrderedDict[Path, int] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()
        self._n_partial = 0

    def path(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()

    def partial(self) -> Path:
        """A new name for a file that is being made."""
        with self._lock:
            self._n_partial += 1
            return self.folder / f"{self._n_partial}.partial"

    def get(self, key: str) -> bytes | None:
        """The content of a small file."""
        path = self.found(key)
        if path is not None:
            with suppress(OSError):
                return path.read_bytes()
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep a small file. A disk that is full is no reason to fail."""
        partial = self.partial()
        try:
            partial.write_bytes(content)
            self.keep(key, partial)
        except OSError as error:
            log.warning("the cache in %s takes no more: %s", self.folder, error.strerror)
            with suppress(OSError):
                partial.unlink()

    def found(self, key: str) -> Path | None:
        """The file of a key, which becomes the last to go."""
        path = self.path(key)
        with self._lock:
            if path not in self._sizes:
                return None
            self._sizes.move_to_end(path)
            return path

    def keep(self, key: str, partial: Path) -> Path:
        """Take a finished file over under its key. Raises OSError."""
        path = self.path(key)
        size = partial.stat().st_size
        with self._lock:
            os.replace(partial, path)
            self._total += size - self._sizes.pop(path, 0)
            self._sizes[path] = size
            while self._total > self.most_bytes and len(self._sizes) > 1:
                oldest, its_size = self._sizes.popitem(last=False)
                self._total -= its_size
                with suppress(OSError):
                    oldest.unlink()
        return path


def _locked(path: Path, flags: int = 0) -> int:
    """A descriptor that holds the lock. Raises OSError when another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(parent: Path) -> None:
    """Remove what processes of this user left that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid():
                _remove(folder, _locked(folder / _LOCK))


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
