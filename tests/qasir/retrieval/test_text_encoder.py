"""Remembering the vectors of texts."""

import numpy as np
import pytest

from qasir.index.spec import EncoderSpec
from qasir.retrieval.text_encoder import TextEncoder

SPEC = EncoderSpec("no such model", "", "none", grid=2, image_size=8, fps=1.0, embedding_dim=4, precision="fp32")


def test_what_was_used_longest_ago_is_forgotten_first():
    texts = TextEncoder(SPEC, kept=2)
    vectors = dict(zip("abc", np.eye(3, 4, dtype=np.float32), strict=True))
    texts.remember({"a": vectors["a"]})
    texts.remember({"b": vectors["b"]})
    assert texts.encode(["a"]).tolist() == [vectors["a"].tolist()]
    texts.remember({"c": vectors["c"]})
    assert texts.encode(["c", "a", "c"]).tolist() == [vectors[name].tolist() for name in "cac"]
    with pytest.raises(Exception, match="no such model"):  # what is not remembered asks the model
        texts.encode(["b"])
