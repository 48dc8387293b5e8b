"""Scores an index on Ray Data, a task a Lance fragment, for corpora beyond one machine's memory."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipelines.attempts import twice_at_most
from pipelines.cluster import connect, graph_settings
from qasir.errors import QasirError, QueryError
from qasir.index.ragged import runs_of, starts
from qasir.retrieval.fragments import score_features, score_fragment
from qasir.retrieval.methods.pooled import Pooled
from qasir.retrieval.ranker import Ranker, RankerOfFeatures, features_of
from qasir.retrieval.vector_source import NOT_FINITE, VectorSource, VideoList
from qasir.retrieval.vectors import Features

log = logging.getLogger(__name__)

_CPUS_A_TASK = 1.0
_NAMED = 5
_LOST = "its worker died, of too little memory perhaps"


class DistributedRanker:
    """Scores queries against every video of an index on Ray, equal to scoring in memory.

    This process holds the scores (Q, V) and the vectors of the few videos that lie in more than one fragment; a task
    holds one fragment's vectors. Torch uses one thread a task. Raises QueryError for vectors that are not the stored
    ones.
    """

    def __init__(self, vectors: VectorSource) -> None:
        if not vectors.is_stored or vectors.snapshot.spec.gates:
            raise QueryError(
                "--distributed scores the vectors as they are stored: for a fine-tuned checkpoint run "
                "jobs/apply_finetuned.py first (recipe eercf with its temporal encoder is scored on one machine)"
            )
        self.vectors = vectors
        self._told = False

    def videos(self) -> VideoList:
        return self.vectors.videos()

    def video_vectors(self) -> NDArray[np.float32]:
        return self.vectors.video_vectors()

    def features(self, granularity: str, videos: NDArray[np.int64]) -> Features:
        return features_of(self.vectors, granularity, videos)

    def counting(self) -> Ranker:
        """In this process, with made-up vectors: what scoring costs does not depend on them."""
        return RankerOfFeatures(_like(self.videos(), self.vectors.snapshot.spec.embedding_dim), self)

    def pooled(self, queries: NDArray[np.float32], methods: Sequence[Pooled]) -> list[NDArray[np.float32]]:
        return [self._scores(queries, method) for method in methods]

    def _scores(self, queries: NDArray[np.float32], method: Pooled) -> NDArray[np.float32]:
        """(Q, V), videos in order of their ids. Raises QasirError that names the fragments that could not be scored."""
        connect()
        place = self.videos().place
        values = np.full((len(queries), len(place)), -np.inf, np.float32)  # of a video that has no rows
        split = []
        for batch in self._scored(queries, method):
            whole = batch.filter(batch["scores"].is_valid())
            where = [place[video_id] for video_id in whole["video_id"].to_pylist()]
            flat = pa.concat_arrays(
                [chunk.flatten() for chunk in whole["scores"].chunks] or [pa.array([], pa.float32())]
            )
            values[:, where] = flat.to_numpy(zero_copy_only=False).reshape(len(where), len(queries)).T
            split.append(batch.filter(batch["position"].is_valid()).select(["video_id", "position", "embedding"]))
        if rest := [table for table in split if len(table)]:
            rows = pa.concat_tables(rest).sort_by([("video_id", "ascending"), ("position", "ascending")])
            ids, first, length = runs_of(rows["video_id"])
            values[:, [place[video_id] for video_id in ids]] = score_features(rows, first, length, queries, method)
        return values

    def _scored(self, queries: NDArray[np.float32], method: Pooled) -> Iterator[pa.Table]:
        """`scored_schema` tables of all fragments."""
        images = self.vectors.snapshot.images_dataset
        missing = {fragment.fragment_id: _LOST for fragment in images.get_fragments()}
        if not missing:  # encoded videos, of which all super images are gone
            return
        n_read = n_not_finite = 0
        with graph_settings(may_lose_blocks=True):  # one that is lost is counted below, and named
            graph = ray.data.from_arrow([pa.table({"fragment": [number]}) for number in missing]).map_batches(
                twice_at_most(_score),
                fn_kwargs={
                    "uri": images.uri,
                    "version": images.version,
                    "current": ray.put(self.vectors.snapshot.encoded()),
                    "queries": ray.put(queries),
                    "method": method,
                },
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=_CPUS_A_TASK,
            )
            batches: Any = graph.iter_batches(batch_size=None, batch_format="pyarrow")
            for batch in batches:
                for told in batch.filter(batch["fragment"].is_valid()).to_pylist():
                    if told["error"] is None:
                        missing.pop(told["fragment"], None)
                        n_read += told["n_read"]
                        n_not_finite += told["n_not_finite"]
                    else:
                        missing[told["fragment"]] = told["error"]
                yield batch
        if missing:
            named = ", ".join(f"{number} ({why})" for number, why in sorted(missing.items())[:_NAMED])
            raise QasirError(
                f"{images.uri}: {len(missing)} of {len(images.get_fragments())} fragments were not scored: {named}; "
                "run again, with more memory a CPU if workers were lost"
            )
        if n_not_finite and not self._told:
            self._told = True
            log.warning(NOT_FINITE, self.vectors.snapshot.uri, n_not_finite, n_read, "super images")


def _score(fragments: pa.Table, *, current: Any, queries: Any, **options: Any) -> pa.Table:
    return score_fragment(fragments, current=ray.get(current), queries=ray.get(queries), **options)


def _like(videos: VideoList, dim: int) -> Features:
    """As many vectors a video, all the same one, which is held once."""
    first, length = starts(videos.n_super_images)
    one = np.zeros(dim, np.float32)
    same = np.lib.stride_tricks.as_strided(one, (int(length.sum()), dim), (0, one.itemsize))
    return Features(first, length, same)
