"""What goes wrong beneath a table, a disk, a file system or an object store, as an error that names the index."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa

from qasir.errors import StorageError
from qasir.files.readable import reason

Kind = TypeVar("Kind")

_STORAGE = re.compile(r"LanceError\(IO\)|^(?:External error: )?Not found: |\(os error \d+\)|Generic [\w/]+ error: ")
"""How Lance marks what is not the caller's fault, in whichever of Python's errors it comes: an `OSError`; an
`ArrowInvalid`, from a scan; a `ValueError`, for an object store's 400, 401, 403 and 503."""
_ADVICE = {
    r"os error (?:28|122)\b": "the disk is full: make room",
    r"os error 27\b": "the file system or a limit takes no file so large: write it elsewhere",
    r"os error 30\b": "it is read-only: mount it for writing, or write elsewhere",
    r"os error (?:1|13)\b": "this user may not: change its permissions",
    r"failed to fill whole buffer|Invalid range|sufficient data|Not found: |corrupt|magic|failed to decode": (
        "a file of it is damaged or missing: jobs/reindex_corpus.py --repair encodes again what was in it, or put it "
        "back from a copy"
    ),
    r"\b40[013]\b|Unauthenticated|Unauthorized|Forbidden|AccessDenied": "the object store refuses: check credentials",
    r"error sending request|\b50[0-9]\b|\b429\b|timed? ?out|retries": (
        "the object store does not answer: check the network and its endpoint, and try again"
    ),
}
"""What to do, by what Lance's text has; the first that fits."""


def is_storage(error: BaseException) -> bool:
    """Whether an error comes from beneath a table, and not from what was asked of it."""
    if isinstance(error, (ValueError, RuntimeError, pa.ArrowException)):
        return _STORAGE.search(str(error)) is not None
    return isinstance(error, OSError)


def storage_error(uri: str, error: BaseException) -> StorageError:
    """The error as one line: the index or table, why, and what to do."""
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, str(error))), None)
    return StorageError(f"cannot use {uri}: {reason(error)}" + (f"; {advice}" if advice else ""))


@contextmanager
def named(uri: str) -> Iterator[None]:
    """Errors from beneath a table become a StorageError about `uri`; all others stay what they are."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        if not is_storage(error):
            raise
        raise storage_error(uri, error) from error


def names_its_uri(kind: type[Kind]) -> type[Kind]:
    """A class whose methods read or write tables of `self.uri`: `named` is around each, so that none is forgotten."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("__"):
            setattr(kind, name, _naming(method))
    return kind


def _naming(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        with named(self.uri):
            return method(self, *args, **options)

    return call
