"""What readers of query files share: their lines and objects, and fields made into a query.

What is wrong in one place of a file is noted there (`qasir.evaluation.query_notes` has the rules) and never ends the
reading.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qasir.errors import QueryError
from qasir.evaluation.query import Query
from qasir.evaluation.query_notes import Notes


@dataclass(frozen=True)
class Place:
    """A line or an entry of a file: what it is called, such as "line 3"; its number; and the notes on the file."""

    where: str
    number: int
    notes: Notes

    def note(self, kind: str, what: str = "") -> None:
        self.notes.add(kind, self.where, what)


def lines_of(text: str, notes: Notes) -> Iterator[tuple[Place, str]]:
    """The lines that are not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Place(f"line {number}", number, notes), line.strip()


def objects_of(text: str, notes: Notes) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The objects of a file that has one JSON object a line; other lines are noted."""
    for place, line in lines_of(text, notes):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            place.note("bad_line", f"not JSON ({error.msg})")
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            place.note("bad_line", "not a JSON object")


def entries_of(rows: Sequence[Any], name: str, notes: Notes) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The objects of a JSON list; other entries are noted. name: what an entry is called."""
    for number, row in enumerate(rows):
        place = Place(f"{name} {number}", number, notes)
        if isinstance(row, dict):
            yield place, row
        else:
            place.note("bad_line", "not an object")


def json_of(path: Path, text: str, kind: type) -> Any:
    """The one JSON value of a file, which must be of this kind: dict or list. Raises QueryError."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise QueryError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(found, kind):
        raise QueryError(f"{path}:1: not a JSON {'object' if kind is dict else 'list'}")
    return found


def query_of(
    place: Place, *, query_id: Any, text: Any, video_id: Any, other_video_ids: Sequence[Any] = (),
    spans: Sequence[Any] = (), duration: Any = None,
) -> Query | None:  # fmt: skip
    """A query of fields as they stand in a file; None where it has no text or no video. spans: pairs of seconds; None
    stands for a moment that is not given, as does a duration of None."""
    videos = [_name(one) for one in (video_id, *other_video_ids)]
    named, name = [video for video in videos if video is not None], _name(query_id)
    if not isinstance(text, str) or not text.strip():
        place.note("no_text")
        return None
    if len(named) < len(videos):
        place.note("no_video")
        return None
    if name is None:
        place.note("no_id")
        name = f"#{place.number}"
    duration_s = _duration(place, duration)
    moments = [_moment(place, span, duration_s) for span in spans if span is not None]
    sound = tuple(moment for moment in moments if moment is not None)
    first, *others = dict.fromkeys(named)
    return Query(name, text.strip(), first, sound, duration_s, tuple(others))


def _name(value: Any) -> str | None:
    """An id, which is a text or a number."""
    is_one = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value).strip() or None if is_one else None


def _duration(place: Place, value: Any) -> float | None:
    seconds = _seconds(value)
    if value is not None and (seconds is None or seconds <= 0):
        place.note("duration_unusable", repr(value))
        return None
    return seconds


def _moment(place: Place, value: Any, duration_s: float | None) -> tuple[float, float] | None:
    """(start, end) seconds of a sound moment, cut to its video."""
    start, end = (_seconds(one) for one in value) if _is_pair(value) else (None, None)
    if start is None or end is None:
        place.note("moment_unreadable", repr(value))
        return None
    until = math.inf if duration_s is None else duration_s
    said = f"{start} to {end} s" + ("" if duration_s is None else f" of {duration_s} s")
    for kind, is_so in (
        ("moment_reversed", end < start),
        ("moment_of_no_time", end == start),
        ("moment_outside", end <= 0 or start >= until),
    ):
        if is_so:
            place.note(kind, said)
            return None
    for kind, is_so in (("moment_before_start", start < 0), ("moment_past_end", end > until)):
        if is_so:
            place.note(kind, said)
    return max(start, 0.0), min(end, until)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _seconds(value: Any) -> float | None:
    """A number, or the digits of one; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None
