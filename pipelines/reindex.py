"""Re-indexes on Ray: `qasir.encoding.reindex` with the stages of `pipelines.encode`."""

from collections.abc import Sequence

from pipelines.cluster import check_gpus
from pipelines.encode import RayStages
from qasir.encoding import reindex
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions, ReindexOptions
from qasir.encoding.prepare import source_to_extend
from qasir.encoding.reindex import ReindexSummary
from qasir.encoding.run import OnProgress, ignore
from qasir.index.index import Index
from qasir.video.corpus import Corpus


def reindex_corpus(
    corpus: Corpus,
    indexes: Sequence[Index],
    options: ReindexOptions | None = None,
    encode: EncodeOptions | None = None,
    *,
    gpus_per_encoder: float | None = None,
    on_progress: OnProgress = ignore,
) -> list[ReindexSummary]:
    """As `qasir.encoding.reindex.reindex_corpus`. gpus_per_encoder: as `Workers.for_cluster` takes it."""
    encode = encode or EncodeOptions()
    check_gpus(encode.decoder)

    def stages(some: Sequence[Index]) -> RayStages:
        return RayStages([Target(index, source_to_extend(index)) for index in some], encode, gpus_per_encoder)

    return reindex.reindex_corpus(corpus, indexes, stages, options or ReindexOptions(), encode, on_progress=on_progress)
