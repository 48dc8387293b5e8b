"""Reads queries from the benchmarks' own annotation files.

| format | file | moments |
| --- | --- | --- |
| jsonl | one object a line: query_id, query, video_id, start_s, end_s, duration_s (the last three may be null) | one or none |
| tvr | TVR's release, one object a line: desc_id, desc, vid_name, ts, duration | one |
| activitynet | ActivityNet Captions, one JSON object: {video: {duration, timestamps, sentences}} | one |
| charades | Charades-STA, `VID start end##text` | one, no duration |
| captions | the PRVR papers' lists, `VID#enc#n text` | none |
| moment-detr | QVHighlights and others, one object a line: qid, query, vid, duration, relevant_windows | several |
| msrvtt | MSR-VTT: the 1k-A test list (`key,vid_key,video_id,sentence` with a header) or MSRVTT_data.json | none |
| msvd | MSVD's descriptions, `VID_start_end text`, lines with # are comments | none |
| didemo | DiDeMo, one JSON list: annotation_id, description, video, times (pairs of 5 s segments) | one, no duration |

The last three are of trimmed videos: a whole video answers a query. DiDeMo's moment is the pair that most annotators chose.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qasir.errors import QueryError

FORMATS = (
    "auto", "jsonl", "tvr", "activitynet", "charades", "captions", "moment-detr", "msrvtt", "msvd", "didemo",
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """A text and the one video it is about; moments are (start, end) in seconds, duration_s None where not given."""

    query_id: str
    text: str
    video_id: str
    moments: tuple[tuple[float, float], ...] = ()
    duration_s: float | None = None

    def moment_ratio(self, duration_s: float | None = None) -> float:
        """M/V: seconds covered by the moments over the video's; NaN without a moment or a duration."""
        whole = self.duration_s or duration_s
        if not self.moments or not whole:
            return math.nan
        return min(1.0, _covered(self.moments) / whole)


def _covered(moments: tuple[tuple[float, float], ...]) -> float:
    total, until = 0.0, -math.inf
    for start, end in sorted(moments):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def read_queries(path: str | Path, form: str = "auto") -> list[Query]:
    """All queries of a file. Raises QueryError that names the file and the line of the first thing wrong."""
    path = Path(path)
    if form not in FORMATS:
        raise QueryError(f"format {form!r}: choose one of {', '.join(FORMATS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise QueryError(f"no such query file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"{path}: cannot be read as text ({error})") from None
    if form == "auto":
        form = detect_format(path, text)
    queries = list(_READERS[form](path, text))
    if not queries:
        raise QueryError(f"{path}: no queries in it")
    _check_ids(path, queries)
    return queries


def detect_format(path: Path, text: str) -> str:
    """Which format a file is, from its first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if re.match(r"\S+#enc#\d+\s", first):
        return "captions"
    if re.match(r"\S+ +\S+ +\S+ *##", first):
        return "charades"
    if re.match(r"key,vid_key,video_id,sentence\b", first) or (text.lstrip().startswith("{") and '"sen_id"' in text):
        return "msrvtt"
    if text.lstrip().startswith("[") and '"annotation_id"' in text:
        return "didemo"
    if re.match(r"(#|\S+_\d+_\d+\s+\S)", first):
        return "msvd"
    try:
        keys = set(json.loads(first))
    except (json.JSONDecodeError, TypeError):
        keys = set()
        if text.lstrip().startswith("{") and '"timestamps"' in text:
            return "activitynet"
    for form, needed in _JSON_KEYS.items():
        if needed <= keys:
            return form
    if first.lstrip().startswith("{") and '"timestamps"' in text:
        return "activitynet"
    raise QueryError(f"{path}: cannot tell its format from the first line; give --format ({', '.join(FORMATS[1:])})")


_JSON_KEYS = {
    "jsonl": {"query_id", "query", "video_id"},
    "tvr": {"desc_id", "desc", "vid_name"},
    "moment-detr": {"qid", "query", "vid"},
}


def _jsonl(path: Path, text: str) -> Iterator[Query]:
    for where, row in _objects(path, text):
        start, end = _number(where, row, "start_s"), _number(where, row, "end_s")
        if (start is None) != (end is None):
            raise QueryError(f"{where}: start_s and end_s must both be numbers or both be null")
        moments = (_moment(where, start, end),) if start is not None and end is not None else ()
        yield _query(where, row, "query_id", "query", "video_id", moments, _number(where, row, "duration_s"))


def _tvr(path: Path, text: str) -> Iterator[Query]:
    for where, row in _objects(path, text):
        moments = (_moment(where, *_pair(where, row.get("ts"))),)
        yield _query(where, row, "desc_id", "desc", "vid_name", moments, _number(where, row, "duration"))


def _moment_detr(path: Path, text: str) -> Iterator[Query]:
    for where, row in _objects(path, text):
        windows = row.get("relevant_windows") or []
        if not isinstance(windows, list):
            raise QueryError(f"{where}: relevant_windows is not a list")
        moments = tuple(_moment(where, *_pair(where, window)) for window in windows)
        yield _query(where, row, "qid", "query", "vid", moments, _number(where, row, "duration"))


def _activitynet(path: Path, text: str) -> Iterator[Query]:
    for video_id, row in _json(path, text, dict).items():
        where = f"{path}: {video_id}"
        if not isinstance(row, dict):
            raise QueryError(f"{where}: not an object")
        sentences, stamps = row.get("sentences"), row.get("timestamps")
        if not isinstance(sentences, list) or not isinstance(stamps, list) or len(sentences) != len(stamps):
            raise QueryError(f"{where}: sentences and timestamps must be lists of one length")
        duration = _number(where, row, "duration")
        for i, (sentence, stamp) in enumerate(zip(sentences, stamps, strict=True)):
            moments = (_moment(where, *_pair(where, stamp)),)
            fields = {"id": f"{video_id}#{i}", "text": sentence, "video": video_id}
            yield _query(where, fields, "id", "text", "video", moments, duration)


_CHARADES_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)\s*##(.*)")


def _charades(path: Path, text: str) -> Iterator[Query]:
    for number, line in _lines(text):
        where = f"{path}:{number}"
        match = _CHARADES_LINE.fullmatch(line)
        if not match:
            raise QueryError(f"{where}: not `VID start end##text`")
        video_id, start, end, sentence = match.groups()
        moments = (_moment(where, *_pair(where, [_parsed(where, start), _parsed(where, end)])),)
        fields = {"id": f"{video_id}#{number}", "text": sentence, "video": video_id}
        yield _query(where, fields, "id", "text", "video", moments, None)


_CAPTION_LINE = re.compile(r"((\S+)#enc#\d+)\s+(.*)")


def _captions(path: Path, text: str) -> Iterator[Query]:
    for number, line in _lines(text):
        match = _CAPTION_LINE.fullmatch(line)
        if not match:
            raise QueryError(f"{path}:{number}: not `VID#enc#n text`")
        query_id, video_id, sentence = match.groups()
        fields = {"id": query_id, "text": sentence, "video": video_id}
        yield _query(f"{path}:{number}", fields, "id", "text", "video", (), None)


def _msrvtt(path: Path, text: str) -> Iterator[Query]:
    if text.lstrip().startswith("{"):
        rows = _json(path, text, dict).get("sentences")
        if not isinstance(rows, list):
            raise QueryError(f"{path}: no list `sentences`")
        for i, row in enumerate(rows):
            where = f"{path}: sentence {i}"
            if not isinstance(row, dict):
                raise QueryError(f"{where}: not an object")
            yield _query(where, row, "sen_id", "caption", "video_id", (), None)
        return
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        yield _query(f"{path}:{number}", row, "key", "sentence", "video_id", (), None)


def _msvd(path: Path, text: str) -> Iterator[Query]:
    for number, line in _lines(text):
        if line.startswith("#"):
            continue
        video_id, _, sentence = line.partition(" ")
        fields = {"id": f"{video_id}#{number}", "text": sentence, "video": video_id}
        yield _query(f"{path}:{number}", fields, "id", "text", "video", (), None)


_DIDEMO_SEGMENT_S = 5.0


def _didemo(path: Path, text: str) -> Iterator[Query]:
    for i, row in enumerate(_json(path, text, list)):
        where = f"{path}: entry {i}"
        if not isinstance(row, dict):
            raise QueryError(f"{where}: not an object")
        times = row.get("times")
        if not isinstance(times, list) or not times:
            raise QueryError(f"{where}: `times` is not a list of pairs")
        pairs = [_pair(where, pair) for pair in times]
        first, last = max(pairs, key=pairs.count)
        moment = _moment(where, first * _DIDEMO_SEGMENT_S, (last + 1) * _DIDEMO_SEGMENT_S)
        yield _query(where, _without_suffix(row), "annotation_id", "description", "video", (moment,), None)


def _without_suffix(row: dict[str, Any]) -> dict[str, Any]:
    """DiDeMo names videos by their file; ids in an index have no suffix."""
    video = row.get("video")
    return {
        **row,
        "video": re.sub(r"\.(mov|avi|mp4|mpg|3gp|m4v|wmv)$", "", video, flags=re.I) if isinstance(video, str) else None,
    }


def _json(path: Path, text: str, kind: type) -> Any:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise QueryError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(found, kind):
        raise QueryError(f"{path}:1: not a JSON {'object' if kind is dict else 'list'}")
    return found


def paragraphs(queries: Sequence[Query]) -> list[Query]:
    """The sentences of each video as one query, in their order, as trimmed benchmarks of several sentences a video are scored."""
    by_video: dict[str, list[Query]] = {}
    for query in queries:
        by_video.setdefault(query.video_id, []).append(query)
    return [
        Query(video_id, " ".join(query.text for query in some), video_id, duration_s=some[0].duration_s)
        for video_id, some in by_video.items()
    ]


_READERS: dict[str, Callable[[Path, str], Iterator[Query]]] = {
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


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def _objects(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in _lines(text):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise QueryError(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise QueryError(f"{where}: not a JSON object")
        yield where, row


def _query(
    where: str, row: dict[str, Any], id_key: str, text_key: str, video_key: str,
    moments: tuple[tuple[float, float], ...], duration_s: float | None,
) -> Query:  # fmt: skip
    for key in (id_key, text_key, video_key):
        if key not in row or row[key] is None:
            raise QueryError(f"{where}: no `{key}`")
    if not isinstance(row[text_key], str) or not row[text_key].strip():
        raise QueryError(f"{where}: `{text_key}` is empty")
    return Query(str(row[id_key]), row[text_key].strip(), str(row[video_key]), moments, duration_s)


def _number(where: str, row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise QueryError(f"{where}: `{key}` is {value!r}, not a number of seconds")
    return float(value)


def _parsed(where: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise QueryError(f"{where}: {text!r} is not a number of seconds") from None


def _pair(where: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise QueryError(f"{where}: {value!r} is not a [start, end] pair")
    start, end = (_number(where, {"moment": v}, "moment") for v in value)
    if start is None or end is None:
        raise QueryError(f"{where}: {value!r} is not a [start, end] pair")
    return start, end


def _moment(where: str, start: float, end: float) -> tuple[float, float]:
    if end < start:
        raise QueryError(f"{where}: the moment ends at {end:g} s, before it starts at {start:g} s")
    return start, end


def _check_ids(path: Path, queries: list[Query]) -> None:
    seen: set[str] = set()
    for query in queries:
        if query.query_id in seen:
            raise QueryError(f"{path}: two queries have the id {query.query_id!r}")
        seen.add(query.query_id)
