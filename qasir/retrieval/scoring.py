"""Scores queries against videos, exactly, at about the speed of the matrix product. How similarities become a score is
the method's (`qasir.retrieval.methods.pooled`); here they are made, a block of videos of like length at a time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qasir.errors import SpecError
from qasir.retrieval.vectors import Features

if TYPE_CHECKING:
    from qasir.retrieval.methods.pooled import Pooled

PRECISIONS = ("fp32", "bf16")
NEVER = -1e30
"""A similarity that gets no weight at any temperature but adds nothing times 0, where minus infinity would add NaN."""
_BLOCK_NUMBERS = 1 << 20
"""Similarities of one block (4 MiB of float32), small enough for a processor's cache."""
_QUERIES_TOGETHER = 2048
_ROWS_TOGETHER = 1 << 15


def score(
    queries: NDArray[np.float32], features: Features, method: "Pooled", *, device: str = "cpu", precision: str = "fp32"
) -> NDArray[np.float32]:
    """(Q, V) exact scores of queries (Q, D), L2-normalised, against every video; see `score_each`."""
    return score_each(queries, features, [method], device=device, precision=precision)[0]


def score_each(
    queries: NDArray[np.float32],
    features: Features,
    methods: Sequence["Pooled"],
    *,
    device: str = "cpu",
    precision: str = "fp32",
) -> list[NDArray[np.float32]]:
    """For every method, (Q, V) exact scores of queries (Q, D), L2-normalised, against every video; minus infinity for a
    video of which nothing can be used.

    precision: "bf16" computes Q S^T in bfloat16, the rest in float32. Beside the features and the results this holds
    about four blocks of at most 2^20 numbers, or of one video times 2048 queries where that is more.
    """
    if precision not in PRECISIONS:
        raise SpecError(f"scoring precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    values = [np.empty((len(queries), features.n_videos), dtype=np.float32) for _ in methods]
    whole = []
    for method, out in zip(methods, values, strict=True):
        rows = method.rows(features)
        if rows is features:
            whole.append((method, out))
        else:
            _score_blocks(queries, rows, [(method, out)], device, precision)
    if whole:
        _score_blocks(queries, features, whole, device, precision)
    if len(features.unusable):
        for out in values:
            out[:, features.unusable] = -np.inf
    return values


def _score_blocks(
    queries: NDArray[np.float32],
    features: Features,
    methods: Sequence[tuple["Pooled", NDArray[np.float32]]],
    device: str,
    precision: str,
) -> None:
    """Fill each method's (Q, V) array; the methods share the product of queries and vectors."""
    all_queries = torch.from_numpy(np.ascontiguousarray(queries))
    vectors = torch.from_numpy(features.vectors)
    is_gated = features.gates is not None and any(method.gated for method, _ in methods)
    gates = torch.from_numpy(features.gates) if features.gates is not None and is_gated else None
    in_half = precision == "bf16"
    for start in range(0, len(queries), _QUERIES_TOGETHER):
        some = all_queries[start : start + _QUERIES_TOGETHER].to(device)
        for block in features.blocks(min(_ROWS_TOGETHER, _BLOCK_NUMBERS // len(some))):
            images = block.of(vectors).to(device)
            padding = None if block.padding is None else torch.from_numpy(block.padding).to(device)
            similarity = similarities(some, images, padding, in_half=in_half)
            gate = None
            if gates is not None:
                gate = similarities(some, block.of(gates).to(device), padding, in_half=in_half)
            for method, out in methods:
                result = method.pool(similarity, images, padding, gate if method.gated else None)
                out[start : start + len(some), block.videos] = result.T.cpu().numpy()


def similarities(queries: Tensor, images: Tensor, padding: Tensor | None, *, in_half: bool = False) -> Tensor:
    """(V, M, Q) products of queries (Q, D) and vectors (V, M, D), far below any cosine where padding (V, M) is true.

    in_half: multiply in bfloat16.
    """
    n_videos, n_images, dim = images.shape
    rows = images.reshape(-1, dim)
    product = (rows.bfloat16() @ queries.bfloat16().T).float() if in_half else rows @ queries.T
    similarity = product.view(n_videos, n_images, -1)
    return similarity if padding is None else similarity.masked_fill_(padding[:, :, None], NEVER)


def best_device() -> str:
    """The GPU, if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
