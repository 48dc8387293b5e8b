"""Reads the queries of a file, in whichever format of `query_formats` it is."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qasir.errors import QueryError
from qasir.evaluation.query import Query
from qasir.evaluation.query_formats import FORMATS, READERS, detect_format
from qasir.evaluation.query_notes import Notes
from qasir.files.text import read_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueryFile:
    """The queries of a file that can be scored, and what was left out or mended of it. form: its format."""

    queries: list[Query]
    notes: Notes
    form: str

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` holds of it."""
        return {"format": self.form, "n_queries": len(self.queries), **self.notes.to_dict()}


def read_queries(path: str | Path, form: str = "auto") -> list[Query]:
    """All queries of a file that can be scored; a warning says what was left out or mended. Raises as
    `read_query_file`."""
    return read_query_file(path, form).queries


def read_query_file(path: str | Path, form: str = "auto", *, strip_prefix: str = "") -> QueryFile:
    """A file's queries and what was left out or mended, which a warning says too. strip_prefix: what is left out at the
    beginning of video ids, where an index's lack it.

    Raises QueryError for a file that cannot be read as text or is none of the formats, and for one without a single
    query that can be scored, which names the first thing wrong.
    """
    path = Path(path)
    if form not in FORMATS:
        raise QueryError(f"format {form!r}: choose one of {', '.join(FORMATS)}")
    text = read_text(path, "query file", QueryError)
    if form == "auto":
        form = detect_format(path, text)
    notes = Notes()
    queries = list(_told_apart((query for query in READERS[form](path, text, notes) if query is not None), notes))
    if not queries:
        why = f": {notes.lines()[0]}" if notes.counts else ""
        raise QueryError(f"{path}: no queries in it that can be scored{why}")
    if notes.counts:
        log.warning("%s: %d queries are read, not all as they stand: %s", path, len(queries), "; ".join(notes.lines()))
    return QueryFile([_stripped(query, strip_prefix) for query in queries], notes, form)


def _stripped(query: Query, prefix: str) -> Query:
    first, *others = (video_id.removeprefix(prefix) or video_id for video_id in query.video_ids)
    return replace(query, video_id=first, other_video_ids=tuple(others)) if prefix else query


def _told_apart(queries: Iterable[Query], notes: Notes) -> Iterator[Query]:
    """The queries, those that share an id under ids of their own."""
    seen: set[str] = set()
    for query in queries:
        name, n = query.query_id, 1
        while name in seen:
            n += 1
            name = f"{query.query_id}~{n}"
        if n > 1:
            notes.add("doubled_id", query.query_id)
        seen.add(name)
        yield query if n == 1 else replace(query, query_id=name)
