"""Object stores by URI: which there are, and the file system and path that a URI names."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.fs as fs

from qasir.errors import UriError
from qasir.files.credentials import check_no_credentials, redacted
from qasir.files.readable import reason
from qasir.files.uris import RemoteUri

PROTOCOLS = ("abfs", "abfss", "gcs", "gs", "hdfs", "hf", "s3", "viewfs")
"""What videos are read over, beside local paths and file://."""
RETRY_S = 30.0
"""A store that could not be reached is tried again after so many seconds: not with every row of a manifest, but while a
server runs."""
_PROBE = "probe"


@dataclass(frozen=True)
class Store:
    """A bucket, or all of a host: its file system, and `base`, what stands before a key in a path of that."""

    filesystem: fs.FileSystem
    address: RemoteUri
    base: str

    def path(self, key: str) -> str:
        return (self.base + key).rstrip("/") or "/"

    def uri(self, path: str) -> str:
        """The URI of a path in the file system."""
        return self.address.with_key(path.removeprefix(self.base))


@dataclass
class _Opening:
    """One store by its name: the lock of who opens it, what came of it, and when that was tried, in seconds."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    found: Store | UriError | OSError | None = None
    tried_s: float = 0.0


class Stores:
    """The stores that were asked for, each opened once; one that could not be opened is not tried again for RETRY_S.

    connections: how many requests each is to bear at once. clock: seconds that only grow.
    """

    def __init__(self, connections: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._connections = connections
        self._clock = clock
        self._openings: dict[tuple[str, str, str], _Opening] = {}
        self._lock = threading.Lock()

    def at(self, uri: str) -> tuple[Store, str]:
        """The store of a URI, and the path that the URI names in its file system.

        Raises UriError for a URI that is none, a protocol that is not one of PROTOCOLS, options that the store does not
        know, and credentials in the URI; OSError for a store that cannot be reached.
        """
        check_no_credentials(uri)
        parts = RemoteUri.parse(uri)
        if parts.scheme not in PROTOCOLS:
            known = ", ".join(f"{protocol}://" for protocol in PROTOCOLS)
            raise UriError(f"videos are not read over {parts.scheme}://, but from local paths, file://, {known}")
        with self._lock:
            opening = self._openings.setdefault((parts.scheme, parts.authority, parts.query), _Opening())
        with opening.lock:  # its own, since opening one may take long, and others have nothing to do with it
            is_stale = isinstance(opening.found, OSError) and self._clock() - opening.tried_s >= RETRY_S
            if opening.found is None or is_stale:
                opening.found = self._open(parts)
                opening.tried_s = self._clock()
            store = opening.found
        if not isinstance(store, Store):
            raise store.with_traceback(None)  # which would grow with every row of a manifest
        return store, store.path(parts.key)

    def _open(self, parts: RemoteUri) -> Store | UriError | OSError:
        probe = RemoteUri(parts.scheme, parts.authority, "", parts.query).with_key(_PROBE)
        try:
            with _io_threads(self._connections):
                filesystem, path = fs.FileSystem.from_uri(probe)
        except (ValueError, ImportError, NotImplementedError) as error:  # ArrowInvalid is a ValueError
            return UriError(reason(error).replace(probe, redacted(probe)))
        except OSError as error:
            return error
        return Store(filesystem, parts, path.removesuffix(_PROBE))


@contextmanager
def _io_threads(least: int) -> Iterator[None]:
    """Arrow's S3 client takes as many connections as there are threads for input and output when it is made."""
    threads = pa.io_thread_count()
    if least > threads:
        pa.set_io_thread_count(least)
    try:
        yield
    finally:
        if least > threads:
            pa.set_io_thread_count(threads)
