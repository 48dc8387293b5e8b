"""What vectors there are of a video: one a super image, or one a cell."""

from qasir.errors import QueryError

GRANULARITIES = ("super-image", "cell")


def check_granularity(granularity: str, has_cells: bool, uri: str) -> None:
    """Raises QueryError for a granularity that is none, or that the index does not have."""
    if granularity not in GRANULARITIES:
        raise QueryError(f"granularity {granularity!r}: choose one of {', '.join(GRANULARITIES)}")
    if granularity == "cell" and not has_cells:
        raise QueryError(f"the index at {uri} was made with --no-cells: it has no cell embeddings")
