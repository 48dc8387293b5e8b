"""Losses of text-video retrieval on a batch of B (query, video) pairs, all with gradients to their inputs.

`similarity` is (B, B): row i is pair i's query, column j pair j's video. `same` (B, B) is true where i and j are of one
video: the captions of one video (siblings) are no negatives of each other, in either direction.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PEARSON_SCALE = 0.14
_EPSILON = 1e-6


def triplet(
    similarity: Tensor, same: Tensor, margin: float, *, hard: bool, generator: torch.Generator | None
) -> Tensor:
    """mean max(0, margin + negative - positive), text to video plus video to text.

    hard: the negative is the most similar one, else a random one. Pairs without any negative count as zero.
    """
    positive = similarity.diagonal()
    total = similarity.new_zeros(())
    for values in (similarity, similarity.T):
        barred = values.masked_fill(same, -torch.inf)
        has_negative = ~same.all(dim=1)
        if hard:
            negative = barred.max(dim=1).values
        else:
            weight = torch.rand(same.shape, generator=generator).to(values.device).masked_fill(same, -1.0)
            negative = values.gather(1, weight.argmax(dim=1, keepdim=True))[:, 0]
        loss = (margin + negative - positive).clamp_min(0.0)
        total = total + torch.where(has_negative, loss, 0.0).mean()
    return total


def info_nce(logits: Tensor, same: Tensor) -> Tensor:
    """Half the sum of the cross-entropies over rows and columns of (B, B) logits, siblings left out."""
    siblings = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    barred = logits.masked_fill(siblings, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(barred, target) + F.cross_entropy(barred.T, target))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """EERCF's Pearson constraint on a, b (B, D): 0.14 * sum_d (C_dd - 1)^2, C_dd the correlation of dimension d over
    the batch.

    Population standard deviation with a small epsilon; the published code has the unbiased one and none. Raises
    ValueError for B < 2.
    """
    if len(a) < 2:
        raise ValueError(f"a correlation over a batch of {len(a)}: it needs 2 or more")
    correlation = (_standardised(a) * _standardised(b)).mean(dim=0)
    return PEARSON_SCALE * (correlation - 1.0).square().sum()


def _standardised(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(dim=0)
    return centred / (centred.square().mean(dim=0).sqrt() + _EPSILON)
