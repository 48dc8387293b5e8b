"""Turns queries into vectors: the text tower of the model that made an index, then a fine-tuned checkpoint's text
side."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import Checkpoint
from qasir.vlm.query_text import check_query

if TYPE_CHECKING:
    from qasir.vlm.model import Vlm

_KEPT = 1 << 15
"""Embeddings kept, those used last: 100 MB at D = 768."""


class TextEncoder:
    """Encodes texts, each distinct one once as long as it is remembered. The model is loaded at the first one.

    kept: how many embeddings are remembered.
    """

    def __init__(self, spec: EncoderSpec, checkpoint: Checkpoint | None = None, *, kept: int = _KEPT) -> None:
        self.checkpoint = checkpoint
        self._spec = spec
        self._vlm: Vlm | None = None
        self._most = kept
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def vlm(self) -> "Vlm":
        """The index's model, loaded. Raises ModelError when its weights are gone, or are no longer those that made the
        index, whose texts would be vectors of another space."""
        if self._vlm is None:
            from qasir.vlm.model import Vlm  # open_clip is waited for where a text or a picture is encoded
            from qasir.vlm.weights import resolve

            source = resolve(self._spec.model, self._spec.pretrained or None)
            self._vlm = Vlm(source.pinned(self._spec.weights), image_size=self._spec.image_size)
        return self._vlm

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) L2-normalised embeddings. Raises QueryError for a text that is none."""
        for text in texts:
            check_query(text)
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        found = {text: self._kept[text] for text in texts if text in self._kept}
        if new:
            found |= dict(zip(new, self.encode_anew(new), strict=True))
        self.remember({text: found[text] for text in dict.fromkeys(texts)})
        return np.stack([found[text] for text in texts])

    def encode_anew(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) embeddings, computed whether they are remembered or not, and not remembered."""
        vectors = self.vlm().encode_texts(list(texts))
        return vectors if self.checkpoint is None else self.checkpoint.model.query_vectors(vectors)

    def remember(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        """Keep embeddings (D,) by text, and forget those used longest ago where they are too many."""
        for text, vector in vectors.items():
            self._kept[text] = vector
            self._kept.move_to_end(text)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
