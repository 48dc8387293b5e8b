"""When a video was recorded, by what its container says."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

_NAMES = ("com.apple.quicktime.creationdate", "date_recorded", "creation_time", "date")
"""What FFmpeg calls it, the best first. QuickTime's creation date is that of the camera, with its offset from UTC, and
Matroska's DATE_RECORDED is just this; `creation_time` (of MP4, MOV, AVI; Matroska's DateUTC) may be that of a copy, and
`date` that of a publication."""
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
"""What comes before is no time but a clock that was never set: zero counts from 1904 in MP4 and MOV, from 1970
elsewhere."""
_CLOCKS_DIFFER = timedelta(days=1)
_LONGEST = 64
_DATE_TIME = re.compile(
    r"(\d{4})([-/:])(\d\d)\2(\d\d)[T ]+(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? *(?:(Z|UTC)|([+-])(\d\d):?(\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)


def recorded_at(tags: Sequence[Mapping[str, str]], *, now: datetime | None = None) -> datetime | None:
    """In UTC, by the tags of the container and then those of the video stream; None where none of them tells.

    A time without an offset counts as UTC. A date without a time of day, what is no date, and what lies before 2
    January 1970 or more than a day after `now` are passed over.
    """
    latest = (now or datetime.now(UTC)) + _CLOCKS_DIFFER
    folded = [{name.casefold(): text for name, text in some.items()} for some in tags]
    times = (_time(some[name]) for name in _NAMES for some in folded if name in some)
    return next((time for time in times if time is not None and _EARLIEST <= time <= latest), None)


def _time(text: str) -> datetime | None:
    found = _DATE_TIME.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        return None
    year, _, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    try:
        local = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0), microsecond,
            timezone(-offset if sign == "-" else offset),
        )  # fmt: skip
        return local.astimezone(UTC)
    except (ValueError, OverflowError):  # no such day or hour, or none in UTC
        return None
