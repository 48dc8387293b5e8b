"""Pieces of SQL filters over an index's tables."""

from collections.abc import Iterator, Sequence

_IDS_A_FILTER = 500


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def id_filter(ids: Sequence[str]) -> str:
    return f"video_id IN ({', '.join(quote(i) for i in ids)})"


def in_chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many ids or conditions at a time as one filter should hold."""
    for start in range(0, len(items), _IDS_A_FILTER):
        yield items[start : start + _IDS_A_FILTER]
