"""Methods that pool the similarities of a video's vectors to a query; the formula that scoring, training and pictures
share.

With q and a video's s_1..s_M L2-normalised, c_i = q.s_i and weights a_i that sum to 1:

    v = normalise(sum_i a_i s_i),  score = q.v = (sum_i a_i c_i) / |sum_i a_i s_i|

No video is expanded to D dimensions for each of many queries: with the Gram matrix G = S S^T of a video,
|sum a_i s_i|^2 = a^T G a, so that a (query, video) pair costs O(M^2) once the similarities are known.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qasir.retrieval.methods.method import Method, Queries

if TYPE_CHECKING:
    from torch import Tensor

    from qasir.retrieval.ranker import Ranker
    from qasir.retrieval.vectors import Features

_SMALLEST_SQUARE = 1e-12


class Pooled(Method):
    """A method that is one pooling. gated: whether it weighs by a video's gates, where it has some, and not by its
    vectors."""

    gated: ClassVar[bool] = False

    @abstractmethod
    def weights(self, similarity: "Tensor", padding: "Tensor | None") -> "Tensor":
        """(V, M, Q) weights over M from similarities (V, M, Q), which are far below any cosine where padding (V, M) is
        true."""

    def pool(
        self, similarity: "Tensor", images: "Tensor", padding: "Tensor | None" = None, gate: "Tensor | None" = None
    ) -> "Tensor":
        """(V, Q) scores from similarities (V, M, Q) and vectors (V, M, D), with gradients to both where they have any.

        gate: similarities (V, M, Q) to weigh by instead.
        """
        if similarity.shape[1] == 1:
            return similarity[:, 0]
        weights = self.weights(similarity if gate is None else gate, padding)
        dot = (similarity * weights).sum(dim=1)
        return dot / _squares(weights, images).clamp_min(_SMALLEST_SQUARE).sqrt()

    def nominates(self) -> bool:
        return True

    def rows(self, features: "Features") -> "Features":
        """The vectors that take part, of all there are."""
        return features

    def score(
        self, queries: Queries, rankers: Sequence["Ranker"], among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        return rankers[0].pooled(queries[0], [self])[0]

    def score_each(
        self, methods: Sequence[Self], queries: Queries, rankers: Sequence["Ranker"]
    ) -> Iterator[NDArray[np.float32]]:
        return iter(rankers[0].pooled(queries[0], methods))

    def attention(self, similarity: NDArray[np.float32], side: int = 0) -> NDArray[np.float32]:
        import torch

        return self.weights(torch.from_numpy(similarity)[None, :, None], None)[0, :, 0].numpy()


def _squares(weights: "Tensor", images: "Tensor") -> "Tensor":
    """(V, Q) squared norms of sum_i a_i s_i, from weights (V, M, Q): through the Gram matrix or the vectors themselves,
    whichever is less work."""
    _, n_images, n_queries = weights.shape
    dim = images.shape[2]
    if n_images * dim + n_queries * n_images < n_queries * dim:
        product = images @ images.transpose(1, 2) @ weights
        return (product * weights if product.requires_grad else product.mul_(weights)).sum(dim=1)
    return (weights.transpose(1, 2) @ images).square().sum(dim=2)
