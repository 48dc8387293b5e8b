"""Scores queries against videos, exactly, at about the speed of the matrix product (QASIR, arXiv 2312.00414; EERCF, AAAI 2024).

With q and a video's s_1..s_M L2-normalised, c_i = q.s_i, and tau the temperature:

    attention   a = softmax(c / tau),  v = normalise(sum_i a_i s_i),  score = q.v
    tib         the same with the gate's temperature: EERCF's text-gated interaction block without its temporal encoder
    weighted    sum_i softmax(c / tau)_i c_i: EERCF's weighted similarity
    mean        v = normalise(sum_i s_i),  score = q.v
    max         score = max_i c_i
    sparse:N    attention over ceil(M / N^2) evenly spaced s_i: on an index of grid 1, single frames at the cost of grid N

No video is ever expanded to D dimensions for each of many queries: with the Gram matrix G = S S^T of a video,
|sum a_i s_i|^2 = a^T G a, so that a (query, video) pair costs O(M^2) once Q S^T is known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qasir.errors import SpecError
from qasir.retrieval.vectors import Features, evenly_spaced

AGGREGATIONS = ("attention", "mean", "max", "tib", "weighted", "sparse:N")
DEFAULT_TEMPERATURE = 0.02
DEFAULT_GATE_TEMPERATURE = 0.1
PRECISIONS = ("fp32", "bf16")
_LEAST_TEMPERATURE = 1e-6
_SMALLEST_SQUARE = 1e-12
_NEVER = -1e30
"""A similarity that gets no weight at any temperature but adds nothing times 0, where minus infinity would add NaN."""
_BLOCK_NUMBERS = 1 << 20
"""Similarities of one block (4 MiB of float32), small enough for a processor's cache."""
_QUERIES_TOGETHER = 2048
_ROWS_TOGETHER = 1 << 15


@dataclass(frozen=True)
class Scoring:
    """How vectors of a video become its score. temperature is tau of attention, weighted and sparse; gate_temperature of tib."""

    aggregation: str = "attention"
    temperature: float = DEFAULT_TEMPERATURE
    gate_temperature: float = DEFAULT_GATE_TEMPERATURE

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS[:-1] and not re.fullmatch(r"sparse:[1-9]\d?", self.aggregation):
            raise SpecError(f"aggregation {self.aggregation!r}: choose one of {', '.join(AGGREGATIONS)}")
        for name in ("temperature", "gate_temperature"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= _LEAST_TEMPERATURE):
                raise SpecError(
                    f"{name.replace('_', ' ')} {value}: choose a number from {_LEAST_TEMPERATURE:g} up "
                    "(towards 0 it becomes max pooling)"
                )

    @property
    def tau(self) -> float:
        return self.gate_temperature if self.aggregation == "tib" else self.temperature

    @property
    def sparse_grid(self) -> int | None:
        """N of sparse:N."""
        return int(self.aggregation.split(":")[1]) if self.aggregation.startswith("sparse:") else None

    def describe(self) -> dict[str, Any]:
        """What reports and JSON say of it: the settings that have an effect."""
        if self.aggregation in ("mean", "max"):
            return {"aggregation": self.aggregation}
        name = "gate_temperature" if self.aggregation == "tib" else "temperature"
        return {"aggregation": self.aggregation, name: self.tau}


def score(
    queries: NDArray[np.float32], features: Features, scoring: Scoring, *, device: str = "cpu", precision: str = "fp32"
) -> NDArray[np.float32]:
    """(Q, V) exact scores of queries (Q, D), L2-normalised, against every video; see `score_each`."""
    return score_each(queries, features, (scoring,), device=device, precision=precision)[0]


def score_each(
    queries: NDArray[np.float32],
    features: Features,
    scorings: Sequence[Scoring],
    *,
    device: str = "cpu",
    precision: str = "fp32",
) -> list[NDArray[np.float32]]:
    """For every scoring, (Q, V) exact scores of queries (Q, D), L2-normalised, against every video.

    precision: "bf16" computes Q S^T in bfloat16, the rest in float32. Beside the features and the results this holds about
    four blocks of at most 2^20 numbers, or of one video times 2048 queries where that is more.
    """
    if precision not in PRECISIONS:
        raise SpecError(f"scoring precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if len(scorings) == 1:
        if scorings[0].sparse_grid:
            features = features.thinned(scorings[0].sparse_grid ** 2)
        if scorings[0].aggregation == "mean":
            features = Features.single(features.means)
    values = [np.empty((len(queries), features.n_videos), dtype=np.float32) for _ in scorings]
    all_queries = torch.from_numpy(np.ascontiguousarray(queries))
    vectors = torch.from_numpy(features.vectors)
    gates = _gates(features, scorings)
    for start in range(0, len(queries), _QUERIES_TOGETHER):
        some = all_queries[start : start + _QUERIES_TOGETHER].to(device)
        for block in features.blocks(min(_ROWS_TOGETHER, _BLOCK_NUMBERS // len(some))):
            images = block.of(vectors).to(device)
            padding = None if block.padding is None else torch.from_numpy(block.padding).to(device)
            similarity = _similarity(some, images, padding, precision)
            gate = None if gates is None else _similarity(some, block.of(gates).to(device), padding, precision)
            for scoring, out in zip(scorings, values, strict=True):
                result = pool(similarity, images, padding, scoring, gate)
                out[start : start + len(some), block.videos] = result.T.cpu().numpy()
    return values


def _gates(features: Features, scorings: Sequence[Scoring]) -> Tensor | None:
    """The vectors that tib weighs by, if a scoring is tib and they are not those that it weighs."""
    if features.gates is None or all(scoring.aggregation != "tib" for scoring in scorings):
        return None
    return torch.from_numpy(features.gates)


def pool(
    similarity: Tensor, images: Tensor, padding: Tensor | None, scoring: Scoring, gate: Tensor | None = None
) -> Tensor:
    """(V, Q) scores of one block, from similarities (V, M, Q) and images (V, M, D); padding (V, M) as in `Block`.

    gate: similarities (V, M, Q) that tib weighs by instead.
    """
    if similarity.shape[1] == 1:
        return similarity[:, 0]
    if scoring.aggregation == "max":
        return similarity.amax(dim=1)
    if scoring.aggregation == "mean":
        kept = torch.ones_like(images[:, :, 0]) if padding is None else (~padding).to(images.dtype)
        weights = (kept / kept.sum(dim=1, keepdim=True))[:, :, None].expand_as(similarity)
    else:
        by = similarity if gate is None or scoring.aggregation != "tib" else gate
        weights = torch.softmax(by / scoring.tau, dim=1)
    dot = (similarity * weights).sum(dim=1)
    if scoring.aggregation == "weighted":
        return dot
    return dot / _squares(weights, images).clamp_min(_SMALLEST_SQUARE).sqrt()


def _similarity(queries: Tensor, images: Tensor, padding: Tensor | None, precision: str) -> Tensor:
    """(V, M, Q), far below any cosine where padded."""
    n_videos, n_images, dim = images.shape
    rows = images.view(-1, dim)
    in_half = precision == "bf16"
    product = (rows.bfloat16() @ queries.bfloat16().T).float() if in_half else rows @ queries.T
    similarity = product.view(n_videos, n_images, -1)
    if padding is not None:
        similarity.masked_fill_(padding[:, :, None], _NEVER)
    return similarity


def attention_weights(similarity: NDArray[np.float32], scoring: Scoring) -> NDArray[np.float32]:
    """(M,) weights that the scoring gives the M vectors of one video, from their similarities to the query."""
    if scoring.aggregation == "mean":
        return np.full(len(similarity), 1.0 / len(similarity), np.float32)
    if scoring.aggregation == "max":
        return (np.arange(len(similarity)) == similarity.argmax()).astype(np.float32)
    if scoring.sparse_grid:
        rows, _ = evenly_spaced(np.array([len(similarity)]), scoring.sparse_grid**2)
        weights = np.zeros(len(similarity), np.float32)
        weights[rows] = attention_weights(similarity[rows], Scoring("attention", scoring.temperature))
        return weights
    raised = np.exp((similarity - similarity.max()) / scoring.tau)
    return (raised / raised.sum()).astype(np.float32)


def _squares(weights: Tensor, images: Tensor) -> Tensor:
    """(V, Q) squared norms of sum_i a_i s_i, from weights (V, M, Q): through the Gram matrix or the vectors themselves,
    whichever is less work."""
    _, n_images, n_queries = weights.shape
    dim = images.shape[2]
    if n_images * dim + n_queries * n_images < n_queries * dim:
        gram = images @ images.transpose(1, 2)
        return (gram @ weights).mul_(weights).sum(dim=1)
    return (weights.transpose(1, 2) @ images).square().sum(dim=2)
