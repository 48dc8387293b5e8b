"""Pieces of SQL filters over an index's tables."""

import re
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

_IDS_A_FILTER = 500
_TEXT_OR_NAME = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|\w+""")
_SQL_TYPES = {
    pa.string().id: "string",
    pa.int32().id: "int",
    pa.float64().id: "double",
    pa.timestamp("us").id: "timestamp",
}
"""What the types of columns that were added to `videos` later are called."""


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def id_filter(ids: Sequence[str]) -> str:
    return f"video_id IN ({', '.join(quote(i) for i in ids)})"


def in_chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many ids or conditions at a time as one filter should hold."""
    for start in range(0, len(items), _IDS_A_FILTER):
        yield items[start : start + _IDS_A_FILTER]


def with_nulls(condition: str, columns: Mapping[str, pa.DataType]) -> str:
    """The condition for a table that lacks these columns, which count as null."""
    if not columns:
        return condition
    nulls = {name: f"CAST(NULL AS {_SQL_TYPES[kind.id]})" for name, kind in columns.items()}

    def null(found: re.Match[str]) -> str:
        return nulls.get(found[0].strip("`").lower(), found[0])

    return _TEXT_OR_NAME.sub(null, condition)


def check_condition(text: str) -> None:
    """Raises ValueError for an empty condition, or one with a parenthesis that closes what it did not open, or a
    comment, which could hide one."""
    depth, least = 0, 0
    plain = _TEXT_OR_NAME.sub(" ", text)
    if "--" in plain or "/*" in plain:
        raise ValueError("it has a comment")
    for sign in plain:
        depth += (sign == "(") - (sign == ")")
        least = min(least, depth)
    if not text.strip() or depth or least:
        raise ValueError("it is empty" if not text.strip() else "its parentheses do not match")
