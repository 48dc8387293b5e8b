"""A limit on the memory of a process that decodes files nobody trusts."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

DECODE_MEMORY = 2 << 30
"""Bytes of private memory that decoding one video may take. The dearest that is real, 8192 x 4320 at 10 bits with the
sixteen frames to refer to that HEVC allows, takes 1.7 GiB."""

_STATUS = Path("/proc/self/status")


class MemoryLimit:
    """Lets this process take at most `most` bytes of private memory more than it held when `renew` was called; None
    sets no limit, nor does a system that does not say what a process holds.

    A decoder that asks for more gets none, and raises MemoryError. It is RLIMIT_DATA, which counts private writable
    pages: Ray's store is mapped and shared, and counts for RLIMIT_AS. Only for processes that somebody watches, since
    memory may be refused to any thread of it.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most if _STATUS.exists() else None
        self._before, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._limit = 0

    def renew(self) -> None:
        """Take what the process holds now as its own, and set the limit."""
        if self._most is not None:
            self._limit = _private_bytes() + self._most
            self.set()

    def set(self) -> None:
        if self._most is not None:
            limits = [self._limit, *(each for each in (self._before, self._hard) if each != resource.RLIM_INFINITY)]
            resource.setrlimit(resource.RLIMIT_DATA, (min(limits), self._hard))

    def off(self) -> None:
        if self._most is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (self._before, self._hard))

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """No limit meanwhile; what is taken counts as the process's own from then on."""
        before = _private_bytes() if self._most is not None else 0
        self.off()
        try:
            yield
        finally:
            if self._most is not None:
                self._limit += max(0, _private_bytes() - before)
                self.set()

    def __enter__(self) -> "MemoryLimit":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.off()


def _private_bytes() -> int:
    """What RLIMIT_DATA counts."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0
