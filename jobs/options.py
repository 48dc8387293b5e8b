"""Options that searching and evaluating share: one index or two, and how they rank."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from qasir.coarse_to_fine import CoarseToFine
from qasir.errors import QueryError
from qasir.hybrid import HYBRIDS, Cascade, Fusion, HybridSearcher, open_hybrid
from qasir.scoring import AGGREGATIONS, DEFAULT_GATE_TEMPERATURE, DEFAULT_TEMPERATURE, Scoring
from qasir.search import Searcher, open_index

Indexes = Annotated[
    list[str], typer.Option("--index", help="The index; with --hybrid twice, the expensive model's first.")
]
AggregationOption = Annotated[str, typer.Option(help=f"{', '.join(AGGREGATIONS)}; sparse:N needs grid 1.")]
Temperatures = Annotated[
    list[float] | None,
    typer.Option(
        "--temperature",
        help="Of the attention, once per index; towards 0 it becomes max pooling.",
        show_default=str(DEFAULT_TEMPERATURE),
    ),
]
GateTemperature = Annotated[float, typer.Option(help="Of the text-gated interaction: tib and --rerank.")]
Hybrid = Annotated[str | None, typer.Option(help="Combine two indexes: fusion or cascade.")]
Weight = Annotated[float, typer.Option(help="Fusion: of the first index's scores, 0 to 1.")]
Recall = Annotated[str | None, typer.Option(help="Coarse to fine: recall by video or super-image.")]
RecallK = Annotated[int, typer.Option(help="Coarse to fine: how many videos are recalled.")]
Rerank = Annotated[str | None, typer.Option(help="Coarse to fine: super-image, cell or both with a comma.")]


def open_searcher(indexes: Sequence[str], hybrid: str | None) -> Searcher[Any]:
    """The index, or the two of a hybrid."""
    if hybrid is None:
        if len(indexes) != 1:
            raise QueryError(f"{len(indexes)} indexes: give --hybrid fusion or cascade to combine two")
        return open_index(indexes[0])
    if hybrid not in HYBRIDS:
        raise QueryError(f"hybrid {hybrid!r}: choose one of {', '.join(HYBRIDS)}")
    if len(indexes) != 2:
        raise QueryError(f"--hybrid {hybrid} takes two --index, the expensive model's first; {len(indexes)} given")
    return open_hybrid(*indexes)


def method_of(
    searcher: Searcher[Any],
    *,
    aggregation: str,
    temperatures: Sequence[float] | None,
    gate_temperature: float = DEFAULT_GATE_TEMPERATURE,
    hybrid: str | None = None,
    weight: float = 0.5,
    cascade_k: int = 50,
    recall: str | None = None,
    recall_k: int = 50,
    rerank: str | None = None,
) -> Any:
    """What the options say, as a method of the searcher. Raises QueryError or SpecError for what does not go together."""
    given = list(temperatures or [])
    n_indexes = 2 if hybrid else 1
    if len(given) not in (0, 1, n_indexes):
        raise QueryError(f"{len(given)} temperatures for {n_indexes} index{'es' if hybrid else ''}: give one for each")
    given = given * n_indexes if len(given) == 1 else given or [DEFAULT_TEMPERATURE] * n_indexes
    scorings = [Scoring(aggregation, one, gate_temperature) for one in given]
    if isinstance(searcher, HybridSearcher):
        if recall or rerank:
            raise QueryError("--recall and --rerank are for one index, --hybrid for two")
        if hybrid == "cascade":
            return Cascade(cascade_k, *scorings)
        return Fusion(weight, *scorings)
    if recall is None and rerank is None:
        return scorings[0]
    parts = tuple(part.strip() for part in (rerank or "super-image").split(","))
    return CoarseToFine(recall or "video", recall_k, parts, gate_temperature)
