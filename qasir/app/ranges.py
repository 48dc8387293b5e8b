"""Which part of a file a request asks for (RFC 9110, sections 13 and 14)."""

import re
from dataclasses import dataclass

_SPEC = re.compile(r"[ \t]*(\d*)-(\d*)[ \t]*")
_UNIT = "bytes="
_DIGITS = 18
"""A number with more digits than these lies beyond the end of every file."""


@dataclass(frozen=True)
class Part:
    """Bytes first .. last, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def content_range(self, size: int) -> str:
        return f"bytes {self.first}-{self.last}/{size}"


class UnsatisfiableError(Exception):
    """No byte of the file is in the range that was asked for. 416."""


def asked_part(value: str | None, size: int) -> Part | None:
    """What a Range header asks for of a file of `size` bytes; None for all of it.

    A header that is malformed, of another unit or of several ranges is passed over, as the standard allows: the answer
    is the whole file. Raises UnsatisfiableError.
    """
    spec = _only_spec(value)
    if spec is None:
        return None
    first, last = spec
    if not first:
        length = min(_number(last), size)
        if length == 0:
            raise UnsatisfiableError
        return Part(size - length, size - 1)
    if last and _number(last) < _number(first):
        return None
    if _number(first) >= size:
        raise UnsatisfiableError
    return Part(_number(first), min(_number(last), size - 1) if last else size - 1)


def _only_spec(value: str | None) -> tuple[str, str] | None:
    """(first, last) as written, of a header with one range."""
    if value is None or value[: len(_UNIT)].lower() != _UNIT:
        return None
    found = _SPEC.fullmatch(value, len(_UNIT))
    if found is None or not any(found.groups()):
        return None
    return found[1], found[2]


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else 10**_DIGITS


def matches(value: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names this ETag, compared weakly."""
    if value is None:
        return False
    return value.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in value.split(","))


def holds(if_range: str | None, etag: str) -> bool:
    """Whether a range may be answered: there is no If-Range header, or it names this very ETag. A date never does."""
    return if_range is None or if_range.strip() == etag
