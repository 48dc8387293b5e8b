"""The benchmarks' own annotation files: which format one is, and a reader of each.

| format | file | moments |
| --- | --- | --- |
| jsonl | one object a line: query_id, query, video_id or video_ids; start_s, end_s, duration_s or null | one or none |
| tvr | TVR's release, one object a line: desc_id, desc, vid_name, ts, duration | one |
| activitynet | ActivityNet Captions, one JSON object: {video: {duration, timestamps, sentences}} | one |
| charades | Charades-STA, `VID start end##text` | one, no duration |
| captions | the PRVR papers' lists, `VID#enc#n text` | none |
| moment-detr | QVHighlights and others, one object a line: qid, query, vid, duration, relevant_windows | several |
| msrvtt | MSR-VTT: the 1k-A test list (`key,vid_key,video_id,sentence` with a header) or MSRVTT_data.json | none |
| msvd | MSVD's descriptions, `VID_start_end text`, lines with # are comments | none |
| didemo | DiDeMo, one JSON list: annotation_id, description, video, times (pairs of 5 s segments) | one, no duration |

The last three are of trimmed videos: a whole video answers a query. DiDeMo's moment is the pair that most annotators
chose, of those that are pairs.

A line that is not as its format says is noted, and what can be scored of it is kept (`qasir.evaluation.query_notes`
says how). Of formats that have several things a line or an entry:

- activitynet: sentences whose number is not that of the timestamps cannot be told theirs, so they have no moments;
- moment-detr: of several windows each is judged alone;
- jsonl: of several right videos (a list, video_ids) the first has the moment; a video_id beside them is that one;
  start_s without end_s, or the other way round, is an unreadable moment.
"""

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qasir.errors import QueryError
from qasir.evaluation.query import Query
from qasir.evaluation.query_fields import Place, entries_of, json_of, lines_of, objects_of, query_of
from qasir.evaluation.query_notes import Notes

FORMATS = (
    "auto", "jsonl", "tvr", "activitynet", "charades", "captions", "moment-detr", "msrvtt", "msvd", "didemo",
)  # fmt: skip


_LINES_LOOKED_AT = 20


def detect_format(path: Path, text: str) -> str:
    """Which format a file is, from the first of its lines that tells. Raises QueryError where none of the first
    `_LINES_LOOKED_AT` does."""
    start = text.lstrip()
    if start.startswith("{") and '"sen_id"' in text:
        return "msrvtt"
    if start.startswith("[") and '"annotation_id"' in text:
        return "didemo"
    lines = (line.strip() for line in text.splitlines() if line.strip())
    for line in itertools.islice(lines, _LINES_LOOKED_AT):
        if form := _format_of_line(line):
            return form
    if start.startswith("{") and '"timestamps"' in text:
        return "activitynet"
    raise QueryError(f"{path}: cannot tell its format from its lines; give --format ({', '.join(FORMATS[1:])})")


def _format_of_line(line: str) -> str | None:
    for form, pattern in _LINES.items():
        if re.match(pattern, line):
            return form
    try:
        keys = set(json.loads(line))
    except (json.JSONDecodeError, TypeError):
        return None
    return next((form for form, needed in _JSON_KEYS if needed <= keys), None)


_LINES = {
    "captions": r"\S+#enc#\d+\s",
    "charades": r"\S+ +\S+ +\S+ *##",
    "msrvtt": r"key,vid_key,video_id,sentence\b",
    "msvd": r"(#|\S+_\d+_\d+\s+\S)",
}
_JSON_KEYS = (
    ("jsonl", {"query_id", "query", "video_id"}),
    ("jsonl", {"query_id", "query", "video_ids"}),
    ("tvr", {"desc_id", "desc", "vid_name"}),
    ("moment-detr", {"qid", "query", "vid"}),
)

Found = Iterator[Query | None]
"""Queries in the order of a file; None for one that was left out."""


def _jsonl(path: Path, text: str, notes: Notes) -> Found:
    for place, row in objects_of(text, notes):
        span = (row.get("start_s"), row.get("end_s"))
        first, *others = _right_videos(row)
        yield query_of(
            place, query_id=row.get("query_id"), text=row.get("query"), video_id=first, other_video_ids=others,
            spans=[] if span == (None, None) else [span], duration=row.get("duration_s"),
        )  # fmt: skip


def _right_videos(row: dict[str, Any]) -> list[Any]:
    """As they are named, one at least, which may be no name."""
    several = row.get("video_ids")
    videos = several if isinstance(several, list) and several else [several]
    if several is None or row.get("video_id") is not None:
        return [row.get("video_id"), *(videos if several is not None else [])]
    return videos


def _tvr(path: Path, text: str, notes: Notes) -> Found:
    for place, row in objects_of(text, notes):
        yield query_of(
            place, query_id=row.get("desc_id"), text=row.get("desc"), video_id=row.get("vid_name"),
            spans=[row.get("ts")], duration=row.get("duration"),
        )  # fmt: skip


def _moment_detr(path: Path, text: str, notes: Notes) -> Found:
    for place, row in objects_of(text, notes):
        yield query_of(
            place, query_id=row.get("qid"), text=row.get("query"), video_id=row.get("vid"),
            spans=_list_or_one(row.get("relevant_windows")), duration=row.get("duration"),
        )  # fmt: skip


def _list_or_one(value: Any) -> list[Any]:
    """What should be a list of moments; what is none is one that cannot be read, and null none."""
    return value if isinstance(value, list) else [value]


def _activitynet(path: Path, text: str, notes: Notes) -> Found:
    for number, (video_id, row) in enumerate(json_of(path, text, dict).items()):
        place = Place(video_id, number, notes)
        sentences = row.get("sentences") if isinstance(row, dict) else None
        if not isinstance(sentences, list):
            place.note("bad_line", "no list `sentences`")
            continue
        spans = row.get("timestamps")
        if not isinstance(spans, list) or len(spans) != len(sentences):
            place.note("moment_unreadable", "sentences and timestamps are not lists of one length")
            spans = [None] * len(sentences)
        for i, (sentence, span) in enumerate(zip(sentences, spans, strict=True)):
            yield query_of(
                place, query_id=f"{video_id}#{i}", text=sentence, video_id=video_id, spans=[span],
                duration=row.get("duration"),
            )  # fmt: skip


_CHARADES_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)\s*##(.*)")


def _charades(path: Path, text: str, notes: Notes) -> Found:
    for place, line in lines_of(text, notes):
        match = _CHARADES_LINE.fullmatch(line)
        if not match:
            place.note("bad_line", "not `VID start end##text`")
            continue
        video_id, start, end, sentence = match.groups()
        name = f"{video_id}#{place.number}"
        yield query_of(place, query_id=name, text=sentence, video_id=video_id, spans=[(start, end)])


_CAPTION_LINE = re.compile(r"((\S+)#enc#\d+)(?:\s+(.*))?")


def _captions(path: Path, text: str, notes: Notes) -> Found:
    for place, line in lines_of(text, notes):
        match = _CAPTION_LINE.fullmatch(line)
        if not match:
            place.note("bad_line", "not `VID#enc#n text`")
            continue
        query_id, video_id, sentence = match.groups()
        yield query_of(place, query_id=query_id, text=sentence, video_id=video_id)


def _msrvtt(path: Path, text: str, notes: Notes) -> Found:
    if not text.lstrip().startswith("{"):
        for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            place = Place(f"line {number}", number, notes)
            yield query_of(place, query_id=row.get("key"), text=row.get("sentence"), video_id=row.get("video_id"))
        return
    rows = json_of(path, text, dict).get("sentences")
    if not isinstance(rows, list):
        raise QueryError(f"{path}: no list `sentences`")
    for place, row in entries_of(rows, "sentence", notes):
        yield query_of(place, query_id=row.get("sen_id"), text=row.get("caption"), video_id=row.get("video_id"))


def _msvd(path: Path, text: str, notes: Notes) -> Found:
    for place, line in lines_of(text, notes):
        if line.startswith("#"):
            continue
        video_id, _, sentence = line.partition(" ")
        yield query_of(place, query_id=f"{video_id}#{place.number}", text=sentence, video_id=video_id)


_DIDEMO_SEGMENT_S = 5.0


def _didemo(path: Path, text: str, notes: Notes) -> Found:
    for place, row in entries_of(json_of(path, text, list), "entry", notes):
        yield query_of(
            place, query_id=row.get("annotation_id"), text=row.get("description"),
            video_id=_without_suffix(row.get("video")), spans=[_agreed(row.get("times"))],
        )  # fmt: skip


def _agreed(times: Any) -> Any:
    """The seconds of the pair of segments that most annotators chose; what is no list of pairs is left as it is."""
    pairs = [pair for pair in times if _is_pair_of_segments(pair)] if isinstance(times, list) else []
    if not pairs:
        return times
    first, last = Counter(map(tuple, pairs)).most_common(1)[0][0]
    return first * _DIDEMO_SEGMENT_S, (last + 1) * _DIDEMO_SEGMENT_S


def _is_pair_of_segments(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)


def _without_suffix(video: Any) -> Any:
    """DiDeMo names videos by their file; ids in an index have no suffix."""
    return re.sub(r"\.(mov|avi|mp4|mpg|3gp|m4v|wmv)$", "", video, flags=re.I) if isinstance(video, str) else video


READERS: dict[str, Callable[[Path, str, Notes], Found]] = {
    "jsonl": _jsonl,
    "tvr": _tvr,
    "activitynet": _activitynet,
    "charades": _charades,
    "captions": _captions,
    "moment-detr": _moment_detr,
    "msrvtt": _msrvtt,
    "msvd": _msvd,
    "didemo": _didemo,
}
