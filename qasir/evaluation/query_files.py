"""Reads the queries of a file, in whichever format of `query_formats` it is."""

from pathlib import Path

from qasir.errors import QueryError
from qasir.evaluation.query import Query
from qasir.evaluation.query_formats import FORMATS, READERS, detect_format


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
    queries = list(READERS[form](path, text))
    if not queries:
        raise QueryError(f"{path}: no queries in it")
    _check_ids(path, queries)
    return queries


def _check_ids(path: Path, queries: list[Query]) -> None:
    seen: set[str] = set()
    for query in queries:
        if query.query_id in seen:
            raise QueryError(f"{path}: two queries have the id {query.query_id!r}")
        seen.add(query.query_id)
