"""Engines over made-up indexes, whose texts are vectors without a model."""

import zlib
from contextlib import contextmanager

import numpy as np

from qasir.app.engine import Engine
from tests.indexes import unit


def made_up_vectors(spec, texts):
    """A vector for each text, the same one whenever it is asked."""
    return unit(np.stack([_random(text).standard_normal(spec.embedding_dim) for text in texts]))


def _random(text):
    return np.random.default_rng(zlib.crc32(text.encode(errors="surrogatepass")))


@contextmanager
def serving(*uris, **options):
    engine = Engine([str(uri) for uri in uris], **{"encode_texts": made_up_vectors} | options)
    try:
        yield engine
    finally:
        engine.close()
