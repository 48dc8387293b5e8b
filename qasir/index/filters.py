"""Pieces of SQL filters over an index's tables."""

import re
from collections.abc import Iterator, Sequence

_IDS_A_FILTER = 500
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def id_filter(ids: Sequence[str]) -> str:
    return f"video_id IN ({', '.join(quote(i) for i in ids)})"


def in_chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many ids or conditions at a time as one filter should hold."""
    for start in range(0, len(items), _IDS_A_FILTER):
        yield items[start : start + _IDS_A_FILTER]


def check_condition(text: str) -> None:
    """Raises ValueError for an empty condition, or one with a parenthesis that closes what it did not open, or a
    comment, which could hide one."""
    depth, least = 0, 0
    plain = _QUOTED.sub("", text)
    if "--" in plain or "/*" in plain:
        raise ValueError("it has a comment")
    for sign in plain:
        depth += (sign == "(") - (sign == ")")
        least = min(least, depth)
    if not text.strip() or depth or least:
        raise ValueError("it is empty" if not text.strip() else "its parentheses do not match")
