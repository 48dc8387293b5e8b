"""From the options a person gives to a checked encoder spec and an open index, before any work starts."""

import logging
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version

from qasir.encoding.options import EncoderOptions, check_values, settled_gap_s
from qasir.errors import ModelError, SpecError
from qasir.index.index import Index
from qasir.index.spec import TONE_MAPPED, EncoderSpec, check_fps, check_sampling
from qasir.video.corpus import Corpus
from qasir.vlm.precision import resolve_precision
from qasir.vlm.sizes import model_sizes
from qasir.vlm.weights import VlmSource, resolve

log = logging.getLogger(__name__)


def prepare(
    options: EncoderOptions, index_uri: str, corpus: Corpus, *, device_type: Callable[[], str] | None = None
) -> tuple[Index, VlmSource]:
    """Check every option and the model's weights, without loading them, and open the index or name a new one. The
    source is pinned to the weights that are here: whoever loads others, on another machine say, is told.

    "auto" precision follows an index that is there already, so that one made on a GPU can be kept up to date without
    one; for a new one device_type() tells what encoders will run on ("cuda" or "cpu"). So does the handling of colours,
    which is that of this version only in a new one. Raises SpecError, ModelError.
    """
    max_gap_s = check_values(options)
    existing = Index.find(index_uri)
    source = resolve(options.model, options.pretrained)
    sizes = model_sizes(source, options.image_size, cells=options.cells)
    precision = options.precision
    if precision == "auto" and existing is not None:
        precision = existing.spec.precision
    precision = resolve_precision(precision, device_type=device_type)
    source = source.pinned()
    if existing is not None and (existing.spec.model, existing.spec.pretrained) == (source.model, source.pretrained):
        _check_weights(existing, source)
    spec = EncoderSpec(
        model=source.model,
        pretrained=source.pretrained,
        weights=source.weights,
        grid=options.grid,
        image_size=sizes.image_size,
        fps=options.fps,
        embedding_dim=sizes.embedding_dim,
        precision=precision,
        fit=options.fit,
        sampling=options.sampling,
        max_gap_s=max_gap_s,
        cells=options.cells,
        thumbnails=options.thumbnails,
        colour=TONE_MAPPED if existing is None else existing.spec.colour,
        library_version=library_version(),
    )
    return Index.open_or_new(index_uri, spec, corpus.root, corpus.source), source


def check_options(options: EncoderOptions, index: Index) -> None:
    """Whether an index was made with these options, as far as can be told without loading a model. Raises SpecError."""
    check_fps(options.fps)
    check_sampling(options.sampling)
    # `pretrained` says where weights are, not what they are.
    names = [field.name for field in fields(EncoderOptions) if field.name not in ("pretrained", "max_gap_s")]
    asked = {name: getattr(options, name) for name in names if getattr(options, name) not in (None, "auto")}
    max_gap_s = settled_gap_s(options)
    if options.sampling == index.spec.sampling:
        asked["max_gap_s"] = max_gap_s
    differences = [
        f"  {name}: {getattr(index.spec, name)} in the index, {value} asked for"
        for name, value in asked.items()
        if getattr(index.spec, name) != value
    ]
    if differences:
        raise SpecError(f"the index at {index.uri} was made with another encoder spec:\n" + "\n".join(differences))


def source_to_extend(index: Index) -> VlmSource:
    """The model that made an index, for encoding more videos into it. Raises ModelError when its weights have
    changed."""
    if index.spec.finetuned:
        raise SpecError(
            f"the index at {index.uri} was made by applying {index.spec.finetuned}: re-index the one it was made from, "
            "then run jobs/apply_finetuned.py again"
        )
    source = resolve(index.spec.model, index.spec.pretrained or None)
    source = source.pinned()
    _check_weights(index, source)
    return source


def _check_weights(index: Index, source: VlmSource) -> None:
    """Raises ModelError when the weights of the index's model have changed; where older versions wrote a tag's or a
    hub's name, that cannot be told and is warned of."""
    if index.spec.weights == source.name:
        log.warning(
            "the index at %s holds only the name of its weights, %s: whether they are still those that made it cannot "
            "be told (they are %s now); an index made anew holds their hash",
            index.uri, index.spec.weights, source.weights,
        )  # fmt: skip
    elif index.spec.weights != source.weights:
        raise ModelError(
            f"the weights of {index.spec.model!r} are not those that made the index at {index.uri}: {source.weights} "
            f"now, {index.spec.weights} then; put the old ones back, or encode into a new index"
        )


def library_version() -> str:
    try:
        return version("qasir")
    except PackageNotFoundError:
        return "0"
