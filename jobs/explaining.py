"""What ended a job, in one line: errors for users, and those of the system, of Arrow, Lance and Ray, and of memory that
ran out. What is left, a TypeError say, is a bug of ours, and is shown with its traceback."""

import sys
from concurrent.futures import BrokenExecutor
from typing import Any

from qasir.errors import QasirError
from qasir.files.readable import printable, reason

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory")


def explained(error: BaseException, doing: str) -> str | None:
    """The line for an error that ended a job; None for a bug. doing: the command, for errors that name nothing."""
    from qasir.index.trouble import is_storage

    error = _cause(error)
    if isinstance(error, QasirError):
        return printable(str(error).replace("\n", "\n  "), keep="\n")
    if _is_out_of_memory(error):
        return f"out of memory: {reason(error)} (in {doing})"
    if isinstance(error, ConnectionError) and not isinstance(error, BrokenPipeError):
        return f"cannot connect: {reason(error)} (in {doing})"
    if isinstance(error, OSError) and error.filename is not None:
        return reason(error)
    if isinstance(error, BrokenExecutor):
        return f"a worker process died, of lack of memory say: {reason(error)} (in {doing})"
    if is_storage(error) or _is_arrows(error) or _is_rays(error) or _is_panic(error):
        return f"{reason(error)} (in {doing})"
    return None


def _cause(error: BaseException) -> BaseException:
    """What a task raised, without Ray's wrapping of it."""
    ray = _loaded("ray.exceptions")
    while ray is not None and isinstance(error, ray.RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def _is_rays(error: BaseException) -> bool:
    ray = _loaded("ray.exceptions")
    return ray is not None and isinstance(error, ray.RayError)


def _is_arrows(error: BaseException) -> bool:
    arrow = _loaded("pyarrow")
    return arrow is not None and isinstance(error, arrow.ArrowException)


def _is_panic(error: BaseException) -> bool:
    """Whether Lance's Rust gave up, on damaged bytes say: no Exception, and without a public class."""
    return type(error).__name__ == "PanicException"


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def _loaded(module: str) -> Any:
    """A module that this process has imported; without it none of its errors can be here."""
    return sys.modules.get(module)
