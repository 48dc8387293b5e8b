"""What readers of query files share: their lines and objects, and fields checked into a query.

`where` is the file and the line, or what stands for it, that a QueryError names.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qasir.errors import QueryError
from qasir.evaluation.query import Query


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def objects_of(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of a file that has one JSON object a line."""
    for number, line in lines_of(text):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise QueryError(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise QueryError(f"{where}: not a JSON object")
        yield where, row


def json_of(path: Path, text: str, kind: type) -> Any:
    """The one JSON value of a file, which must be of this kind: dict or list."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise QueryError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(found, kind):
        raise QueryError(f"{path}:1: not a JSON {'object' if kind is dict else 'list'}")
    return found


def checked_query(
    where: str, row: dict[str, Any], id_key: str, text_key: str, video_key: str,
    moments: tuple[tuple[float, float], ...], duration_s: float | None,
) -> Query:  # fmt: skip
    for key in (id_key, text_key, video_key):
        if key not in row or row[key] is None:
            raise QueryError(f"{where}: no `{key}`")
    if not isinstance(row[text_key], str) or not row[text_key].strip():
        raise QueryError(f"{where}: `{text_key}` is empty")
    return Query(str(row[id_key]), row[text_key].strip(), str(row[video_key]), moments, duration_s)


def seconds_of(where: str, row: dict[str, Any], key: str) -> float | None:
    """A field in seconds; None if it is not there or null."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise QueryError(f"{where}: `{key}` is {value!r}, not a number of seconds")
    return float(value)


def parsed_seconds(where: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise QueryError(f"{where}: {text!r} is not a number of seconds") from None


def checked_pair(where: str, value: Any) -> tuple[float, float]:
    """(start, end), neither of them negative."""
    if not isinstance(value, list) or len(value) != 2:
        raise QueryError(f"{where}: {value!r} is not a [start, end] pair")
    start, end = (seconds_of(where, {"moment": v}, "moment") for v in value)
    if start is None or end is None:
        raise QueryError(f"{where}: {value!r} is not a [start, end] pair")
    return start, end


def checked_moment(where: str, start: float, end: float) -> tuple[float, float]:
    if end < start:
        raise QueryError(f"{where}: the moment ends at {end:g} s, before it starts at {start:g} s")
    return start, end
