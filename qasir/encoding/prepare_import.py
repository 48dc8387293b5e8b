"""From features and options to the index that they go into, before anything is written."""

import logging

from qasir.encoding.feature_corpus import FeatureCorpus
from qasir.encoding.prepare import library_version
from qasir.errors import ModelError, SpecError
from qasir.index.index import Index
from qasir.index.spec import EncoderSpec
from qasir.vlm.sizes import ModelSizes, model_sizes
from qasir.vlm.weights import VlmSource, resolve

log = logging.getLogger(__name__)

_AS_GIVEN = "as given"
"""The precision of what was computed elsewhere."""


def prepare_import(features: FeatureCorpus, index_uri: str) -> Index:
    """Open the index, or name a new one. Raises SpecError where the model's vectors have another dimension or the index
    holds other rows, ModelError for a model with --pretrained that cannot be built."""
    options = features.options
    source = _source(options.model, options.pretrained)
    sizes = ModelSizes(0, features.dim) if source is None else model_sizes(source)
    if sizes.embedding_dim != features.dim:
        raise SpecError(
            f"{features.path} has vectors of {features.dim} dimensions, and {options.model} those of "
            f"{sizes.embedding_dim}: they are of another model, were not projected, or need --columns"
        )
    spec = EncoderSpec(
        model=options.model if source is None else source.model,
        pretrained="" if source is None else source.pretrained,
        weights="" if source is None else source.fingerprint(),
        grid=options.grid,
        image_size=sizes.image_size,
        fps=options.fps or 0.0,
        embedding_dim=features.dim,
        precision=_AS_GIVEN,
        cells=False,
        thumbnails=False,
        interpolation="",
        colour="",
        features=str(features),
        library_version=library_version(),
    )
    return Index.open_or_new(index_uri, spec, features.corpus.root, features.corpus.source)


def _source(model: str, pretrained: str | None) -> VlmSource | None:
    """The model, or None where its name is only a label."""
    try:
        return resolve(model, pretrained)
    except ModelError:
        if pretrained is not None:
            raise
    log.info(
        "%s is a label: texts can be encoded for the index only with an open_clip --model and its --pretrained", model
    )
    return None
