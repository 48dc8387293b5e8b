"""Encodes and scores the same made-up material on a device: `python -m tests.on_device cuda results.npz`."""

import sys

import numpy as np
from numpy.typing import NDArray

from qasir.index.ragged import starts
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.methods.weighted import Weighted
from qasir.retrieval.scoring import score_each
from qasir.retrieval.vectors import Features
from qasir.vlm.model import Vlm
from qasir.vlm.weights import resolve
from tests.indexes import unit

METHODS = (Attention(), Mean(), Max(), TextGated(), Weighted(), Sparse(2))
TEXTS = ["a penguin", "a pizza and a dragon on a blue background", "fire"]
LEAST_COSINE = {"fp32": 0.9999, "bf16": 0.99}
"""Of embeddings on two devices. The patch embedding is a convolution: GPUs compute it in TF32 for fp32."""
MOST_APART = 1e-4
"""Of scores on two devices, which are float32 throughout."""


def results(device: str) -> dict[str, NDArray[np.float32]]:
    """Embeddings ("fp32 images", "bf16 cells", ...) and scores ("attention scores", ...) as `device` computes them."""
    return {**_embeddings(device), **_scores(device)}


def _embeddings(device: str) -> dict[str, NDArray[np.float32]]:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 192, 192, 3), np.uint8)
    found = {}
    for precision in LEAST_COSINE:
        vlm = Vlm(resolve("qasir-tiny"), precision=precision, device=device)
        images, cells = vlm.encode_images(pixels, grid=3)
        assert cells is not None
        found |= {f"{precision} images": images, f"{precision} cells": cells}
    return {**found, "fp32 texts": vlm.encode_texts(TEXTS)}


def _scores(device: str) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    lengths = np.array([1, 7, 3, 40, 2])
    vectors, gates = (unit(rng.standard_normal((lengths.sum(), 24))) for _ in range(2))
    features = Features(*starts(lengths), vectors, gates)
    queries = unit(rng.standard_normal((9, 24)))
    return {
        f"{scoring.describe()['aggregation']} scores": score_each(queries, features, [scoring], device=device)[0]
        for scoring in METHODS
    }


def apart(one: dict[str, NDArray[np.float32]], other: dict[str, NDArray[np.float32]]) -> list[str]:
    """What two devices do not agree on; raises ValueError if they did not compute the same things."""
    if one.keys() != other.keys():
        raise ValueError(f"different results: {sorted(one.keys() ^ other.keys())}")
    return [name for name in one if not _agree(name, one[name], other[name])]


def _agree(name: str, one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    if name.endswith("scores"):
        return bool(np.abs(one - other).max() <= MOST_APART)
    return bool((one * other).sum(-1).min() >= LEAST_COSINE[name.split()[0]])


if __name__ == "__main__":
    np.savez(sys.argv[2], **results(sys.argv[1]))  # type: ignore[arg-type]  # numpy's stub takes names for options
