"""Scores an index on Ray Data, a task a Lance fragment, for corpora beyond one machine's memory."""

from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipelines.cluster import connect, graph_settings
from qasir.index.ragged import numbered, runs_of
from qasir.index.snapshot import Snapshot
from qasir.retrieval.fragments import score_features, score_fragment
from qasir.retrieval.scoring import Scoring

_CPUS_A_TASK = 1.0


class DistributedScores:
    """Scores queries against every video of a snapshot, equal to scoring in memory.

    This process holds the scores (Q, V) and the vectors of the few videos that lie in more than one fragment; a task holds one
    fragment's vectors. Torch uses one thread a task.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    @graph_settings()
    def __call__(self, queries: NDArray[np.float32], scoring: Scoring) -> NDArray[np.float32]:
        """(Q, V), videos in order of their ids."""
        connect()
        encoded = self.snapshot.encoded()
        place = numbered(encoded["video_id"].to_pylist())
        values = np.full((len(queries), len(place)), np.nan, np.float32)
        split = []
        for batch in self._scored(queries, scoring, encoded):
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
            values[:, [place[video_id] for video_id in ids]] = score_features(rows, first, length, queries, scoring)
        return values

    def _scored(self, queries: NDArray[np.float32], scoring: Scoring, encoded: pa.Table) -> Any:
        images = self.snapshot.images_dataset
        score: Any = _score
        numbers = [fragment.fragment_id for fragment in images.get_fragments()]
        scored = ray.data.from_arrow([pa.table({"fragment": [number]}) for number in numbers]).map_batches(
            score,
            fn_kwargs={
                "uri": images.uri,
                "version": images.version,
                "current": ray.put(encoded),
                "queries": ray.put(queries),
                "scoring": scoring,
            },
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=_CPUS_A_TASK,
        )
        return scored.iter_batches(batch_size=None, batch_format="pyarrow")


def _score(fragments: pa.Table, *, current: Any, queries: Any, **options: Any) -> pa.Table:
    return score_fragment(fragments, current=ray.get(current), queries=ray.get(queries), **options)
