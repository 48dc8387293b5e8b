"""Hits as files: a table (CSV), JSON, or a time line that editors read (OpenTimelineIO).

**CSV** is RFC 4180 in UTF-8: a header, commas, CRLF, quotes where needed. A text that begins with = + - @, a tab or a
carriage return gets an apostrophe in front: a spreadsheet would take it for a formula. **JSON** is the answer of
`/api/search`. **OTIO** is a time line with one track: a clip for each hit, in their order, that names the URL of the
video's file and the part of it that is the moment, in frames of its own rate, counted as a player does (from the first
displayed frame, plus `media_offset_s`). A marker where the hit fits best has the score and the query.
"""

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal
from urllib.parse import quote

from qasir.app.answers import SearchAnswer, SearchHit
from qasir.errors import QueryError, UriError
from qasir.files.uris import is_remote, local_path

Format = Literal["csv", "json", "otio"]
MEDIA_TYPES: Mapping[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "otio": "application/vnd.pixar.opentimelineio+json",
}
COLUMNS = (
    "video_id", "uri", "title", "score", "video_score", "start_s", "end_s", "at_s", "media_offset_s", "duration_s",
    "date", "date_kind", "codec", "width", "height", "above_cutoff", "problem",
)  # fmt: skip
"""Of the CSV: fields of a hit."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_USUAL_FPS = 25.0
_NAME_CHARACTERS = 60


def exported(answer: SearchAnswer, format: Format, fps: Mapping[str, float | None]) -> bytes:
    """A file of the answer's hits. fps: {video_id: frames a second}; one whose rate is not known counts as 25."""
    if format == "csv":
        return to_csv(answer.hits).encode()
    if format == "json":
        return json.dumps(asdict(answer), ensure_ascii=False, indent=2).encode()
    return to_otio(answer, fps).encode()


def selected(answer: SearchAnswer, select: str | None) -> SearchAnswer:
    """The same with some hits only, "1,3,5" say, counted from 1; in their order. Raises QueryError."""
    if select is None:
        return answer
    numbers = [part.strip() for part in select.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,4}", number) and 1 <= int(number) <= len(answer.hits) for number in numbers):
        raise QueryError(f"select {select[:80]!r}: give numbers of hits, 1 to {len(answer.hits)}, with commas")
    chosen = {int(number) for number in numbers}
    return replace(answer, hits=[hit for place, hit in enumerate(answer.hits, start=1) if place in chosen])


def to_csv(hits: Sequence[SearchHit]) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    rows.writerows([_cell(getattr(hit, name)) for name in COLUMNS] for hit in hits)
    return text.getvalue()


def to_otio(answer: SearchAnswer, fps: Mapping[str, float | None]) -> str:
    """JSON that `opentimelineio.adapters.read_from_string` and editors read."""
    import opentimelineio as otio

    track = otio.schema.Track("moments", kind=otio.schema.TrackKind.Video)
    for hit in answer.hits:
        track.append(_clip(hit, answer.query, fps.get(hit.video_id) or _USUAL_FPS))
    timeline = otio.schema.Timeline(f"qasir: {answer.query}", metadata={"qasir": {"query": answer.query}})
    timeline.tracks.append(track)
    return otio.adapters.write_to_string(timeline, "otio_json")


def content_disposition(query: str, format: Format) -> str:
    """The header that gives the file a name: that of the query, as far as a file's name can have it."""
    letters = "".join(sign if sign.isalnum() else "-" for sign in unicodedata.normalize("NFC", query))
    name = re.sub("-+", "-", letters)[:_NAME_CHARACTERS].strip("-") or "hits"
    plain = re.sub("-+", "-", re.sub(r"[^A-Za-z0-9]", "-", name)).strip("-") or "hits"
    header = f'attachment; filename="qasir-{plain}.{format}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(f'qasir-{name}.{format}', safe='')}"


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _url(uri: str) -> str:
    """Of a video's file: a local path as a file:// URL whose signs are percent-encoded; one that is on no disk as it
    is."""
    try:
        return uri if is_remote(uri) else f"file://{quote(os.fsencode(os.path.abspath(local_path(uri))))}"
    except (UriError, UnicodeError):  # it names a host, or no file
        return uri


def _clip(hit: SearchHit, query: str, fps: float) -> Any:
    import opentimelineio as otio

    def part(start_s: float, end_s: float) -> Any:
        first, last = (round((seconds + hit.media_offset_s) * fps) for seconds in (start_s, end_s))
        return otio.opentime.TimeRange(
            otio.opentime.RationalTime(first, fps), otio.opentime.RationalTime(max(1, last - first), fps)
        )

    facts = {"query": query, "score": hit.score, "video_id": hit.video_id, "at_s": hit.at_s}
    clip = otio.schema.Clip(
        name=hit.title,
        media_reference=otio.schema.ExternalReference(_url(hit.uri), part(-hit.media_offset_s, hit.duration_s)),
        source_range=part(hit.start_s, hit.end_s),
        metadata={"qasir": facts},
    )
    clip.markers.append(
        otio.schema.Marker(
            name=f"{hit.score:.3f} {query}", marked_range=part(hit.at_s, hit.at_s), color="GREEN",
            metadata={"qasir": facts}, comment=query,
        )
    )  # fmt: skip
    return clip
