"""Turns queries into vectors: the text tower of the model that made an index, then a fine-tuned checkpoint's text
side."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qasir.errors import ModelError
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import Checkpoint
from qasir.vlm.query_text import check_query

if TYPE_CHECKING:
    from qasir.vlm.model import Vlm

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> (n, D) L2-normalised vectors of a model's text tower."""
KEPT = 1 << 15
"""Embeddings kept, those used last: 100 MB at D = 768."""


class TextEncoder:
    """Encodes texts, each distinct one once as long as it is remembered. The model is loaded at the first one. Threads
    may share it.

    kept: how many embeddings are remembered. encode: the text tower, where it runs elsewhere; by default the model is
    loaded here.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        checkpoint: Checkpoint | None = None,
        *,
        kept: int = KEPT,
        encode: Encode | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self._spec = spec
        self._tower = encode
        self._loading = threading.Lock()
        self._remembering = threading.Lock()
        self._vlm: Vlm | None = None
        self._most = kept
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def vlm(self) -> "Vlm":
        """The index's model, loaded. Raises ModelError when its weights are gone, or are no longer those that made the
        index, whose texts would be vectors of another space."""
        with self._loading:
            if self._vlm is None:
                from qasir.vlm.model import Vlm  # open_clip is waited for where a text or a picture is encoded
                from qasir.vlm.weights import resolve

                check_model(self._spec)
                source = resolve(self._spec.model, self._spec.pretrained or None)
                self._vlm = Vlm(source.pinned(self._spec.weights), image_size=self._spec.image_size)
            return self._vlm

    def remembered(self, text: str) -> NDArray[np.float32] | None:
        """(D,) where it is."""
        with self._remembering:
            return self._kept.get(text)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) L2-normalised embeddings. Raises QueryError for a text that is none."""
        for text in texts:
            check_query(text)
        with self._remembering:
            found = {text: self._kept[text] for text in texts if text in self._kept}
        if new := [text for text in dict.fromkeys(texts) if text not in found]:
            found |= dict(zip(new, self.encode_anew(new), strict=True))
        self.remember({text: found[text] for text in dict.fromkeys(texts)})
        return np.stack([found[text] for text in texts])

    def encode_anew(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) embeddings, computed whether they are remembered or not, and not remembered."""
        vectors = (self._tower or self.vlm().encode_texts)(list(texts))
        return vectors if self.checkpoint is None else self.checkpoint.model.query_vectors(vectors)

    def remember(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        """Keep embeddings (D,) by text, and forget those used longest ago where they are too many."""
        with self._remembering:
            for text, vector in vectors.items():
                self._kept[text] = vector
                self._kept.move_to_end(text)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def check_model(spec: EncoderSpec) -> None:
    """Raises ModelError for an index of imported features whose model is only a label."""
    if not spec.has_model:
        raise ModelError(
            f"the index holds imported features, and their model {spec.model!r} is only a label, so no tower is known "
            "to encode a text or a picture. Search by --like VIDEO@SECONDS, or by features of queries "
            "(--query-features), or import again with the open_clip model they are of (--model NAME --pretrained TAG)"
        )
