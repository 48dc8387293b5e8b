"""From what a person asks for by name to a searcher and its method."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qasir.errors import QueryError
from qasir.index.index import Index
from qasir.retrieval.checkpoint import load_checkpoint
from qasir.retrieval.coarse_to_fine import CoarseToFine
from qasir.retrieval.hybrid import HYBRIDS, Cascade, Fusion, HybridSearcher
from qasir.retrieval.scoring import Scoring
from qasir.retrieval.searcher import IndexSearcher, Searcher
from qasir.retrieval.tuned import choose


def open_searcher(indexes: Sequence[str], hybrid: str | None, finetuned: Sequence[str] | None = None) -> Searcher[Any]:
    """The index, or the two of a hybrid, each through the fine-tuned checkpoint that fits it if there is one."""
    if hybrid is None:
        if len(indexes) != 1:
            raise QueryError(f"{len(indexes)} indexes: give --hybrid fusion or cascade to combine two")
        (searcher,) = _opened(indexes, finetuned or [])
        return searcher
    if hybrid not in HYBRIDS:
        raise QueryError(f"hybrid {hybrid!r}: choose one of {', '.join(HYBRIDS)}")
    if len(indexes) != 2:
        raise QueryError(f"--hybrid {hybrid} takes two --index, the expensive model's first; {len(indexes)} given")
    return HybridSearcher(*_opened(indexes, finetuned or []))


def _opened(indexes: Sequence[str], finetuned: Sequence[str]) -> list[IndexSearcher]:
    opened = [Index.open(uri) for uri in indexes]
    tuned = choose([load_checkpoint(folder) for folder in finetuned], {index.uri: index.spec for index in opened})
    return [IndexSearcher(index, finetuned=tuned.get(index.uri)) for index in opened]


def method_of(
    searcher: Searcher[Any],
    *,
    aggregation: str | None,
    temperatures: Sequence[float] | None = None,
    gate_temperature: float | None = None,
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
    each: Sequence[float | None] = given * n_indexes if len(given) == 1 else given or [None] * n_indexes
    sides = [searcher.large, searcher.small] if isinstance(searcher, HybridSearcher) else [searcher]
    scorings = [_scoring(side, aggregation, one, gate_temperature) for side, one in zip(sides, each, strict=True)]
    if isinstance(searcher, HybridSearcher):
        if recall or rerank:
            raise QueryError("--recall and --rerank are for one index, --hybrid for two")
        if hybrid == "cascade":
            return Cascade(cascade_k, *scorings)
        return Fusion(weight, *scorings)
    if recall is None and rerank is None:
        return scorings[0]
    parts = tuple(part.strip() for part in (rerank or "super-image").split(","))
    return CoarseToFine(recall or "video", recall_k, parts, scorings[0].gate_temperature)


def _scoring(
    searcher: Searcher[Any], aggregation: str | None, temperature: float | None, gate_temperature: float | None
) -> Scoring:
    """The searcher's own scoring, with what is given in its place."""
    given = {"aggregation": aggregation, "temperature": temperature, "gate_temperature": gate_temperature}
    return replace(searcher.default, **{name: value for name, value in given.items() if value is not None})
