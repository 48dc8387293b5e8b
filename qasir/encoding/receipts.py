"""What comes back of the stages, in any order: reports of decoded segments, and batches that are written but not
committed."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray

from qasir.encoding.bounds import Capacity
from qasir.encoding.reports import Report
from qasir.errors import QasirError


@dataclass(frozen=True)
class Written:
    """What one written batch holds for one index: fragments to commit, and {video_id: (positions, sum of embeddings)}.

    not_finite: {video_id: positions} that were left out, since their embeddings are not finite. seconds: {stage: time
    it took for the batch}; encode_cpu_s: what encoding it took of all cores; began: when that began, in seconds since
    the epoch.
    """

    index: int
    fragments: list[FragmentMetadata]
    videos: dict[str, tuple[list[int], NDArray[np.float64]]]
    seconds: dict[str, float] = field(default_factory=dict)
    encode_cpu_s: float = 0.0
    began: float | None = None
    not_finite: dict[str, list[int]] = field(default_factory=dict)

    def positions(self) -> Iterator[tuple[str, list[int]]]:
        """(video_id, positions) of all that the batch was made of."""
        yield from ((video_id, positions) for video_id, (positions, _) in self.videos.items())
        yield from self.not_finite.items()


Receipt = Report | Written


@dataclass(frozen=True)
class Resized:
    """Between receipts: what came before was a probe, and what it measured gives the stages other sizes. before: those
    that they had."""

    before: Capacity


def written_of(rows: pa.Table) -> Iterator[Written]:
    """The batches of WRITTEN_SCHEMA rows. Raises QasirError when one could not be encoded or written."""
    for row in rows.to_pylist():
        if row["failure"] is not None:
            raise QasirError(row["failure"])
        yield Written(
            index=row["index"],
            fragments=[pickle.loads(fragment) for fragment in row["fragments"]],
            videos={video["video_id"]: (video["positions"], np.array(video["total"])) for video in row["videos"]},
            seconds={"encode": row["encode_s"], "write": row["write_s"]},
            encode_cpu_s=row["encode_cpu_s"] or 0.0,
            began=row["began"],
            not_finite={video["video_id"]: video["positions"] for video in row["not_finite"]},
        )
