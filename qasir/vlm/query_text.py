"""What a text must be to be encoded."""

from qasir.errors import QueryError

MAX_QUERY_CHARACTERS = 10_000


def check_query(text: str) -> None:
    """Raises QueryError for a text that is empty or too long to be a query."""
    if not text.strip():
        raise QueryError('the query is empty: say what the moment shows, e.g. "a penguin and a pizza"')
    if len(text) > MAX_QUERY_CHARACTERS:
        raise QueryError(f"the query has {len(text):,} characters; the limit is {MAX_QUERY_CHARACTERS:,}")
