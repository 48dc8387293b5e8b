"""A time limit that holds even when a decoder hangs inside C code with the interpreter's lock."""

import signal
from types import TracebackType


class Alarm:
    """Kills this process with SIGALRM when `limit_s` pass after `set` without another `set` or `off`; None never does.

    Only for worker processes that somebody watches: nothing of the process can be saved.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s or 0.0

    def set(self) -> None:
        if self._limit_s:
            signal.setitimer(signal.ITIMER_REAL, self._limit_s)

    def off(self) -> None:
        if self._limit_s:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def __enter__(self) -> "Alarm":
        self.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.off()
