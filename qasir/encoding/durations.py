"""Reads how long videos are, from a file beside their features."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from qasir.errors import FeaturesError
from qasir.files.readable import reason
from qasir.files.text import read_text

_IDS = ("video_id", "vid_name", "vid")
"""What the benchmarks call a video's id."""
_SECONDS = ("duration", "duration_s")


def read_durations(path: Path) -> dict[str, float]:
    """{video_id: seconds}. A .json holds {id: seconds}, or {id: {"duration": seconds}} as ActivityNet Captions has it;
    a .jsonl or .csv an id (`video_id`, `vid_name`, `vid`) and a `duration` a line, doubled ones alike.

    Raises FeaturesError that names the file and the first thing wrong.
    """
    text = read_text(path, "file of durations", FeaturesError)
    readers = {".json": _of_json, ".jsonl": _of_lines, ".csv": _of_csv}
    if path.suffix.lower() not in readers:
        raise FeaturesError(f"{path}: durations are read from {', '.join(readers)}")
    try:
        pairs = list(readers[path.suffix.lower()](text))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise FeaturesError(f"{path}: no ids with durations in it ({reason(error)})") from None
    found: dict[str, float] = {}
    for name, stated in pairs:
        seconds = _seconds(path, name, stated)
        if found.setdefault(name, seconds) != seconds:
            raise FeaturesError(f"{path}: two durations of {name!r}: {found[name]:g} and {seconds:g}")
    return found


def _seconds(path: Path, name: str, stated: Any) -> float:
    try:
        seconds = float(stated)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise FeaturesError(f"{path}: the duration of {name!r} is {stated!r}, not a number of seconds above 0")
    return seconds


def _of_json(text: str) -> Iterator[tuple[str, Any]]:
    for name, value in json.loads(text).items():
        yield name, value["duration"] if isinstance(value, dict) else value


def _of_lines(text: str) -> Iterator[tuple[str, Any]]:
    yield from _of_rows(json.loads(line) for line in text.splitlines() if line.strip())


def _of_csv(text: str) -> Iterator[tuple[str, Any]]:
    yield from _of_rows(csv.DictReader(io.StringIO(text)))


def _of_rows(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for row in rows:
        name = next((row[column] for column in _IDS if column in row), None)
        stated = next((row[column] for column in _SECONDS if column in row), None)
        if name is None or stated is None:
            raise ValueError(f"a line without one of {', '.join(_IDS)} and one of {', '.join(_SECONDS)}: {row}")
        yield name, stated
