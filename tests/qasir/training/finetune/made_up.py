"""Made-up vectors and batches for the tests of fine-tuning."""

import numpy as np
import torch

from qasir.index.ragged import starts
from qasir.retrieval.vectors import Features
from qasir.training.finetune.objective import Batch


def rows(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def unit_rows(seed, *shape):
    made = rows(seed, *shape)
    return (made / np.linalg.norm(made, axis=-1, keepdims=True)).astype(np.float32)


def ragged(seed, lengths):
    """(features, the same padded (V, M, D), padding (V, M))."""
    vectors = unit_rows(seed, sum(lengths), 16)
    first, length = starts(np.array(lengths))
    images = torch.zeros(len(lengths), max(lengths), 16)
    padding = torch.ones(len(lengths), max(lengths), dtype=torch.bool)
    for v, (low, n) in enumerate(zip(first, length, strict=True)):
        images[v, :n] = torch.from_numpy(vectors[low : low + n])
        padding[v, :n] = False
    return Features(first, length, vectors), images, padding


def batch(lengths, *, video, cells=0, seed=0):
    _, images, padding = ragged(seed, lengths)
    made = {}
    if cells:
        _, made["cells"], made["cell_padding"] = ragged(seed + 1, [n * cells for n in lengths])
    texts = torch.from_numpy(unit_rows(seed + 2, len(lengths), 16))
    return Batch(texts, images, padding, torch.tensor(video), **made)
