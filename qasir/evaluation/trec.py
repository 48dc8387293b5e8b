"""Rankings and judgements as TREC run and qrels files, which other evaluators read (trec_eval, ranx, ir-measures).

    run.txt     query Q0 document rank score tag
    qrels.txt   query 0 document 1

Ids are percent-encoded where they hold white space, a percent sign or what is not ASCII, since fields are separated by
spaces; `urllib.parse.unquote` gives them back. A run has the first DEPTH documents of every query, scores as they are
(float32, to the last digit). Of equal scores the right documents come last, as ranks here count ties; an evaluator that
goes by scores alone orders them as it pleases. Documents that score minus infinity, since nothing of them can be used,
are not in a run.

With one right document a query, R@K is `recall@K` and 100 times it in percent; with several it is `hit_rate@K`
(success@K). The mean reciprocal rank misses at most 1 / DEPTH of a query whose right document lies deeper. Queries that
count as misses are in the qrels and not in the run: evaluators must be told to count those (`trec_eval -c`, ranx's
`make_comparable`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from qasir.evaluation.evaluate import Evaluation, VideoToText
from qasir.files.whole import write_lines
from qasir.retrieval.searcher import Searcher

DEPTH = 1000
_AS_IT_IS = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"


@dataclass(frozen=True)
class Run:
    """What was ranked: values (Q, D), the scores of queries and documents by their ids; right[q]: the numbers of the
    documents that are right for query q; missed: (query, right documents) of queries that were not ranked and count."""

    query_ids: list[str]
    document_ids: list[str]
    values: NDArray[np.float32]
    right: list[list[int]]
    missed: list[tuple[str, tuple[str, ...]]]
    tag: str

    @classmethod
    def of_texts(cls, evaluation: Evaluation, searcher: Searcher) -> Self:
        """Texts are queries and videos documents."""
        place = searcher.videos().place
        return cls(
            [query.query_id for query in evaluation.queries],
            searcher.videos().video_ids,
            evaluation.values,
            [[place[video_id] for video_id in query.video_ids] for query in evaluation.queries],
            [(query.query_id, query.video_ids) for query in evaluation.missed],
            _tag(evaluation.method.name),
        )

    @classmethod
    def of_videos(cls, found: VideoToText) -> Self:
        """Videos are queries and texts documents."""
        right: dict[str, list[int]] = {video_id: [] for video_id in found.video_ids}
        for number, query in enumerate(found.queries):
            for video_id in query.video_ids:
                right[video_id].append(number)
        texts = [query.query_id for query in found.queries]
        return cls(found.video_ids, texts, found.values, list(right.values()), [], _tag(found.method.name))

    def write(self, folder: Path) -> None:
        """run.txt and qrels.txt. Raises StorageError where they cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(folder / "run.txt", self._run_lines())
        write_lines(folder / "qrels.txt", self._qrels_lines())

    def _run_lines(self) -> Iterator[str]:
        documents = [encoded(one) for one in self.document_ids]
        for query_id, scores, right in zip(map(encoded, self.query_ids), self.values, self.right, strict=True):
            for rank, number in enumerate(_first(scores, right).tolist(), start=1):
                yield f"{query_id} Q0 {documents[number]} {rank} {scores[number]:.9g} {self.tag}\n"

    def _qrels_lines(self) -> Iterator[str]:
        ranked = ([self.document_ids[number] for number in numbers] for numbers in self.right)
        for query_id, right in [*zip(self.query_ids, ranked, strict=True), *self.missed]:
            for document_id in right:
                yield f"{encoded(query_id)} 0 {encoded(document_id)} 1\n"


def encoded(name: str) -> str:
    """An id without white space; what is printable ASCII stays, but for the percent sign, and bytes of a file's name
    that are no UTF-8 are encoded as those bytes."""
    return quote(name, safe=_AS_IT_IS, errors="surrogateescape")


def _tag(method: str) -> str:
    return f"qasir-{encoded(method)}"


def _first(scores: NDArray[np.float32], right: list[int]) -> NDArray[np.int64]:
    """The numbers of the DEPTH best documents, best first, the right ones last of equal scores."""
    some = np.flatnonzero(np.isfinite(scores))
    if len(some) > DEPTH:
        least = -np.partition(-scores[some], DEPTH - 1)[DEPTH - 1]
        some = some[scores[some] >= least]
    order = np.lexsort((np.isin(some, right), -scores[some]))
    return some[order][:DEPTH]
