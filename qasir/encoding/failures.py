"""When so many videos failed that a job says so by its exit status."""

from typing import Protocol

_ATTEMPTS_FOR_A_SHARE = 20


class Attempted(Protocol):
    """The summary of a run, as far as this goes: how many new and changed files it tried, and how many of them failed.

    What had failed before and was tried again is in neither, or one file that never succeeds would fail every run.
    """

    @property
    def attempts(self) -> int: ...

    @property
    def attempts_failed(self) -> int: ...


def too_many_failed(summary: Attempted, max_failed: float) -> bool:
    """From 20 attempts up whether more than this share of them failed, of fewer only whether none succeeded."""
    if summary.attempts >= _ATTEMPTS_FOR_A_SHARE:
        return summary.attempts_failed > max_failed * summary.attempts
    return summary.attempts > 0 and summary.attempts_failed >= summary.attempts
