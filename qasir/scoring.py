"""Scores queries against videos, exactly (QASIR, arXiv 2312.00414; formulas in the functions).

With q and s_1..s_M L2-normalised, tau the temperature:

    attention   a_i = softmax_i(q.s_i / tau),  v = normalise(sum_i a_i s_i),  score = q.v
    mean        a_i = 1 / M, then as above
    max         score = max_i q.s_i

No video is ever expanded to D dimensions per query: with the Gram matrix G = S S^T of a video,
|sum a_i s_i|^2 = a^T G a, so a (query, video) pair costs O(M^2) once Q S^T is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qasir.errors import SpecError
from qasir.index import SuperImageTable

Aggregation = Literal["attention", "mean", "max"]
AGGREGATIONS = ("attention", "mean", "max")
DEFAULT_TEMPERATURE = 0.02
_SMALLEST_SQUARE = 1e-12
_BLOCK_NUMBERS = 1 << 24
"""Similarities held at once (64 MiB of float32); the working set is about four times that."""


@dataclass(frozen=True)
class Scoring:
    """How super images become a video's score. `temperature` is tau, used by attention only."""

    aggregation: Aggregation = "attention"
    temperature: float = DEFAULT_TEMPERATURE

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            raise SpecError(f"aggregation {self.aggregation!r}: choose one of {', '.join(AGGREGATIONS)}")
        if not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise SpecError(
                f"temperature {self.temperature}: choose a number above 0 (towards 0 it becomes max pooling)"
            )


@dataclass(frozen=True)
class Scores:
    """values (n_queries, n_videos) float32; peaks, same shape, the row of the table that fits the query best."""

    values: NDArray[np.float32]
    peaks: NDArray[np.int32]


def score(queries: NDArray[np.float32], images: SuperImageTable, scoring: Scoring, *, device: str = "cpu") -> Scores:
    """Exact scores of every query (n_queries, D), L2-normalised, against every video of the table."""
    values = np.full((len(queries), images.n_videos), np.nan, dtype=np.float32)
    peaks = np.zeros((len(queries), images.n_videos), dtype=np.int32)
    all_queries = torch.from_numpy(np.ascontiguousarray(queries)).to(device)
    for videos, rows in _blocks(images.offsets):
        block = torch.from_numpy(images.embeddings[np.maximum(rows, 0)]).to(device)
        valid = torch.from_numpy(rows >= 0).to(device)
        step = max(1, _BLOCK_NUMBERS // rows.size)
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            block_values, block_peaks = score_block(all_queries[some], block, valid, scoring)
            values[some, videos] = block_values.cpu().numpy()
            peaks[some, videos] = rows[np.arange(len(rows))[None, :], block_peaks.cpu().numpy()]
    return Scores(values, peaks)


def score_block(queries: Tensor, images: Tensor, valid: Tensor, scoring: Scoring) -> tuple[Tensor, Tensor]:
    """Scores of one padded block.

    queries (Q, D); images (V, M, D), padding rows arbitrary; valid (V, M) bool, at least one true a video.
    Returns scores (Q, V) and, for each, the position (Q, V) of the super image most similar to the query.
    """
    similarity = images @ queries.T  # (V, M, Q)
    masked = similarity.masked_fill(~valid[:, :, None], -torch.inf)
    best, peak = masked.max(dim=1)
    if scoring.aggregation == "max":
        return best.T, peak.T
    weights = attention_weights(masked, valid, scoring)
    zeroed = images * valid[:, :, None]
    gram = zeroed @ zeroed.transpose(1, 2)
    dot = (weights * similarity.masked_fill(~valid[:, :, None], 0.0)).sum(dim=1)
    square = (weights * (gram @ weights)).sum(dim=1)
    return (dot / square.clamp_min(_SMALLEST_SQUARE).sqrt()).T, peak.T


def attention_weights(masked: Tensor, valid: Tensor, scoring: Scoring) -> Tensor:
    """(V, M, Q) weights that sum to 1 over M; padding gets none. masked: similarities, -inf where padding."""
    if scoring.aggregation == "mean":
        share = valid / valid.sum(dim=1, keepdim=True)
        return share[:, :, None].expand_as(masked).to(masked.dtype)
    if scoring.aggregation == "max":
        return torch.nn.functional.one_hot(masked.argmax(dim=1), masked.shape[1]).transpose(1, 2).to(masked.dtype)
    return torch.softmax(masked / scoring.temperature, dim=1)


def _blocks(offsets: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Videos in blocks of like length: (videos (V,), rows (V, M)) with -1 for padding. Sorting by length keeps it rare."""
    lengths = np.diff(offsets)
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        shortest = max(1, int(lengths[order[start]]))
        while stop < len(order):
            longest = int(lengths[order[stop]])
            if longest > 1.25 * shortest + 1 or longest * (stop + 1 - start) > _BLOCK_NUMBERS // 64:
                break
            stop += 1
        videos = order[start:stop]
        longest = int(lengths[videos].max())
        rows = offsets[videos][:, None] + np.arange(longest)
        yield videos, np.where(np.arange(longest) < lengths[videos][:, None], rows, -1)
        start = stop
