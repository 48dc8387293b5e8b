"""Queries' features on a command line, in place of an index's text tower."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.command_line import Given
from qasir.errors import QueryError
from qasir.options import options_of
from qasir.retrieval.query_features import QueryFeatureOptions

if TYPE_CHECKING:
    from qasir.evaluation.query import Query
    from qasir.index.spec import EncoderSpec
    from qasir.retrieval.asking import Embedded
    from qasir.retrieval.searcher import Searcher
    from qasir.retrieval.text_encoder import Encode


def check_query_features(options: QueryFeatureOptions, given: Given, n_indexes: int) -> None:
    """Raises for options that do not go together."""
    if options.query_features is None:
        others = [option.field for option in options_of(QueryFeatureOptions)]
        given.refuse(others, "they say how --query-features is read, which is not given")
    elif n_indexes > 1:
        raise QueryError("--query-features are of one model: they go with one --index")


def encode_given(options: QueryFeatureOptions, queries: "Sequence[Query]") -> "Callable[[EncoderSpec], Encode] | None":
    """What `open_searcher` takes as encode: None without features, for the index's own text tower."""
    if options.query_features is None:
        return None
    from qasir.retrieval.query_features import EncodeGiven, QueryFeatures

    features = QueryFeatures(options.query_features, options)
    named = [(query.query_id, query.text) for query in queries]
    return lambda spec: EncodeGiven(features, named, spec.embedding_dim)


def told_of(options: QueryFeatureOptions) -> str:
    """Which features they are and how they become vectors, in one line; "" without features."""
    if options.query_features is None:
        return ""
    told = {**asdict(options), "query_features": options.query_features.absolute()}
    return ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, False))


def given_query(options: QueryFeatureOptions, query_id: str, searcher: "Searcher") -> "Embedded":
    """The features of one query as a part of a search, through the text side of the searcher's checkpoint if there is
    one. Raises QueryError where there are none."""
    from qasir.retrieval.asking import Embedded
    from qasir.retrieval.query_features import QueryFeatures

    assert options.query_features is not None
    (side,) = searcher.sides
    vector = QueryFeatures(options.query_features, options).vector(query_id, side.index.spec.embedding_dim)
    if side.texts.checkpoint is not None:
        vector = side.texts.checkpoint.model.query_vectors(vector[None])[0]
    return Embedded(f"query {query_id}", {side.index.uri: vector})
