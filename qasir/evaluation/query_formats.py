"""The benchmarks' own annotation files: which format one is, and a reader of each.

| format | file | moments |
| --- | --- | --- |
| jsonl | one object a line: query_id, query, video_id; start_s, end_s, duration_s, which may be null | one or none |
| tvr | TVR's release, one object a line: desc_id, desc, vid_name, ts, duration | one |
| activitynet | ActivityNet Captions, one JSON object: {video: {duration, timestamps, sentences}} | one |
| charades | Charades-STA, `VID start end##text` | one, no duration |
| captions | the PRVR papers' lists, `VID#enc#n text` | none |
| moment-detr | QVHighlights and others, one object a line: qid, query, vid, duration, relevant_windows | several |
| msrvtt | MSR-VTT: the 1k-A test list (`key,vid_key,video_id,sentence` with a header) or MSRVTT_data.json | none |
| msvd | MSVD's descriptions, `VID_start_end text`, lines with # are comments | none |
| didemo | DiDeMo, one JSON list: annotation_id, description, video, times (pairs of 5 s segments) | one, no duration |

The last three are of trimmed videos: a whole video answers a query. DiDeMo's moment is the pair that most annotators
chose.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qasir.errors import QueryError
from qasir.evaluation.query import Query
from qasir.evaluation.query_fields import (
    checked_moment,
    checked_pair,
    checked_query,
    json_of,
    lines_of,
    objects_of,
    parsed_seconds,
    seconds_of,
)

FORMATS = (
    "auto", "jsonl", "tvr", "activitynet", "charades", "captions", "moment-detr", "msrvtt", "msvd", "didemo",
)  # fmt: skip


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
    for where, row in objects_of(path, text):
        start, end = seconds_of(where, row, "start_s"), seconds_of(where, row, "end_s")
        if (start is None) != (end is None):
            raise QueryError(f"{where}: start_s and end_s must both be numbers or both be null")
        moments = (checked_moment(where, start, end),) if start is not None and end is not None else ()
        yield checked_query(where, row, "query_id", "query", "video_id", moments, seconds_of(where, row, "duration_s"))


def _tvr(path: Path, text: str) -> Iterator[Query]:
    for where, row in objects_of(path, text):
        moments = (checked_moment(where, *checked_pair(where, row.get("ts"))),)
        yield checked_query(where, row, "desc_id", "desc", "vid_name", moments, seconds_of(where, row, "duration"))


def _moment_detr(path: Path, text: str) -> Iterator[Query]:
    for where, row in objects_of(path, text):
        windows = row.get("relevant_windows") or []
        if not isinstance(windows, list):
            raise QueryError(f"{where}: relevant_windows is not a list")
        moments = tuple(checked_moment(where, *checked_pair(where, window)) for window in windows)
        yield checked_query(where, row, "qid", "query", "vid", moments, seconds_of(where, row, "duration"))


def _activitynet(path: Path, text: str) -> Iterator[Query]:
    for video_id, row in json_of(path, text, dict).items():
        where = f"{path}: {video_id}"
        if not isinstance(row, dict):
            raise QueryError(f"{where}: not an object")
        sentences, stamps = row.get("sentences"), row.get("timestamps")
        if not isinstance(sentences, list) or not isinstance(stamps, list) or len(sentences) != len(stamps):
            raise QueryError(f"{where}: sentences and timestamps must be lists of one length")
        duration = seconds_of(where, row, "duration")
        for i, (sentence, stamp) in enumerate(zip(sentences, stamps, strict=True)):
            moments = (checked_moment(where, *checked_pair(where, stamp)),)
            fields = {"id": f"{video_id}#{i}", "text": sentence, "video": video_id}
            yield checked_query(where, fields, "id", "text", "video", moments, duration)


_CHARADES_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)\s*##(.*)")


def _charades(path: Path, text: str) -> Iterator[Query]:
    for number, line in lines_of(text):
        where = f"{path}:{number}"
        match = _CHARADES_LINE.fullmatch(line)
        if not match:
            raise QueryError(f"{where}: not `VID start end##text`")
        video_id, start, end, sentence = match.groups()
        span = [parsed_seconds(where, start), parsed_seconds(where, end)]
        moments = (checked_moment(where, *checked_pair(where, span)),)
        fields = {"id": f"{video_id}#{number}", "text": sentence, "video": video_id}
        yield checked_query(where, fields, "id", "text", "video", moments, None)


_CAPTION_LINE = re.compile(r"((\S+)#enc#\d+)\s+(.*)")


def _captions(path: Path, text: str) -> Iterator[Query]:
    for number, line in lines_of(text):
        match = _CAPTION_LINE.fullmatch(line)
        if not match:
            raise QueryError(f"{path}:{number}: not `VID#enc#n text`")
        query_id, video_id, sentence = match.groups()
        fields = {"id": query_id, "text": sentence, "video": video_id}
        yield checked_query(f"{path}:{number}", fields, "id", "text", "video", (), None)


def _msrvtt(path: Path, text: str) -> Iterator[Query]:
    if text.lstrip().startswith("{"):
        rows = json_of(path, text, dict).get("sentences")
        if not isinstance(rows, list):
            raise QueryError(f"{path}: no list `sentences`")
        for i, row in enumerate(rows):
            where = f"{path}: sentence {i}"
            if not isinstance(row, dict):
                raise QueryError(f"{where}: not an object")
            yield checked_query(where, row, "sen_id", "caption", "video_id", (), None)
        return
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        yield checked_query(f"{path}:{number}", row, "key", "sentence", "video_id", (), None)


def _msvd(path: Path, text: str) -> Iterator[Query]:
    for number, line in lines_of(text):
        if line.startswith("#"):
            continue
        video_id, _, sentence = line.partition(" ")
        fields = {"id": f"{video_id}#{number}", "text": sentence, "video": video_id}
        yield checked_query(f"{path}:{number}", fields, "id", "text", "video", (), None)


_DIDEMO_SEGMENT_S = 5.0


def _didemo(path: Path, text: str) -> Iterator[Query]:
    for i, row in enumerate(json_of(path, text, list)):
        where = f"{path}: entry {i}"
        if not isinstance(row, dict):
            raise QueryError(f"{where}: not an object")
        times = row.get("times")
        if not isinstance(times, list) or not times:
            raise QueryError(f"{where}: `times` is not a list of pairs")
        pairs = [checked_pair(where, pair) for pair in times]
        first, last = max(pairs, key=pairs.count)
        moment = checked_moment(where, first * _DIDEMO_SEGMENT_S, (last + 1) * _DIDEMO_SEGMENT_S)
        yield checked_query(where, _without_suffix(row), "annotation_id", "description", "video", (moment,), None)


def _without_suffix(row: dict[str, Any]) -> dict[str, Any]:
    """DiDeMo names videos by their file; ids in an index have no suffix."""
    video = row.get("video")
    return {
        **row,
        "video": re.sub(r"\.(mov|avi|mp4|mpg|3gp|m4v|wmv)$", "", video, flags=re.I) if isinstance(video, str) else None,
    }


READERS: dict[str, Callable[[Path, str], Iterator[Query]]] = {
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
