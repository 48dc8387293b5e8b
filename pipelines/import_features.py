"""Imports features of frames: in this process, or, where they are many and there is a cluster, by tasks on Ray that
each read, convert and write some videos. The driver commits either way."""

import logging
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import pyarrow as pa
import ray

from pipelines.cluster import connect, total_cpus
from pipelines.local_ray import is_here
from qasir.encoding.bounds import Capacity
from qasir.encoding.feature_corpus import FeatureCorpus
from qasir.encoding.import_features import BYTES_AT_ONCE, FeatureStages, told
from qasir.encoding.import_options import ImportOptions
from qasir.encoding.options import EncodeOptions
from qasir.encoding.receipts import Receipt
from qasir.encoding.run import EncodeSummary, OnProgress, ignore, run_encoding
from qasir.encoding.stages import Stages
from qasir.encoding.watched import Death
from qasir.errors import FeaturesError, QasirError
from qasir.index.index import Index

log = logging.getLogger(__name__)

LARGE = 1 << 30
"""Bytes of files of features from which on a cluster reads them: below, its tasks take longer to start than the files
to be read."""
_BLOCKS_A_WORKER = 4
"""At least, so that none waits long for the last one."""
_RETRIES = 2


def import_features(
    features: FeatureCorpus,
    index: Index,
    options: EncodeOptions | None = None,
    *,
    job: str = "import_features",
    on_progress: OnProgress = ignore,
) -> EncodeSummary:
    """As `qasir.encoding.import_features.import_features`, whose rows these are, on Ray where `on_ray` says so."""
    stages: Stages = RayFeatureStages(features, index) if on_ray(features) else FeatureStages(features, index)
    (summary,) = run_encoding(
        features.corpus, [index], stages, options or EncodeOptions(), job=job, on_progress=on_progress
    )
    return summary


def on_ray(features: FeatureCorpus) -> bool:
    """Whether there is a cluster (RAY_ADDRESS, which submitted jobs have too) and enough to read for it. On one machine
    nothing is gained: see docs/features.md."""
    return not is_here() and features.n_bytes >= LARGE


class Files:
    """Where features are and how they are read, for a worker. version: of what is in them."""

    def __init__(self, path: str, options: ImportOptions, version: str) -> None:
        self._key = (path, options, version)

    def opened(self) -> FeatureCorpus:
        """Listed once a process."""
        return _opened(*self._key)


class RayFeatureStages:
    """`Stages` on Ray: a task a block of videos, as many at once as there are CPUs, each of which takes of memory what
    a fragment has. Workers open the files by the same path, on storage that all of them share.

    files: what they open, for these features.
    """

    def __init__(self, features: FeatureCorpus, index: Index, files: Files | None = None) -> None:
        self.capacity: Capacity | None = None
        self._features = features
        self._files = files or Files(features.path, features.options, features.version)
        self._index = index

    def run(self, plan: pa.Table) -> Generator[Receipt, None, None]:
        connect()
        n_workers = max(1, int(total_cpus()))
        size = self._videos_a_block(len(plan), n_workers)
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_imported)
        blocks = (task.remote(self._files, self._index, plan.slice(i, size)) for i in range(0, len(plan), size))
        yield from told(_received(blocks, n_workers))

    def alone(self, segments: Sequence[pa.Table]) -> list[Death | None]:
        """As `Stages.alone`, reading only."""
        connect()
        task = ray.remote(num_cpus=1, max_retries=1)(_read)
        deaths: list[Death | None] = []
        for segment in segments:
            (video_id,) = segment["video_id"].to_pylist()
            try:
                ray.get(task.remote(self._files, video_id))
                deaths.append(None)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                deaths.append(Death("crashed", "the process that reads its features dies, alone and twice"))
            except ray.exceptions.RayError:  # its node was lost, say: no fault of the video's
                deaths.append(None)
        return deaths

    def _videos_a_block(self, n_videos: int, n_workers: int) -> int:
        """As many as fill about a fragment, and fewer where there would be too few blocks."""
        a_video = max(1.0, self._features.n_bytes / len(self._features.names))
        return max(1, min(int(BYTES_AT_ONCE / a_video), n_videos // (_BLOCKS_A_WORKER * n_workers)))


@lru_cache(maxsize=1)
def _opened(path: str, options: ImportOptions, version: str) -> FeatureCorpus:
    return FeatureCorpus(path, options)


def _imported(files: Files, index: Index, plan: pa.Table) -> list[Receipt] | str:
    """What a task returns: receipts, or why there are none."""
    try:
        return list(FeatureStages(files.opened(), index).receipts(plan))
    except QasirError as error:
        return str(error)


def _read(files: Files, video_id: str) -> None:
    try:
        files.opened().load(video_id)
    except FeaturesError:
        return  # which is told when it is read for its rows


def _received(blocks: Iterator[ray.ObjectRef], most: int) -> Iterator[Receipt]:
    """The receipts of tasks as they end; no more than `most` are started at once. A block that is lost, when its worker
    died as often as it was tried, is missing. Raises QasirError for a task that cannot read or write."""
    running = list(islice(blocks, most))
    while running:
        (done,), running = ray.wait(running)
        running += islice(blocks, 1)
        try:
            found = ray.get(done)
        except ray.exceptions.RayError as error:
            log.warning("a block of videos was lost: %s", type(error).__name__)
            continue
        if isinstance(found, str):
            raise QasirError(found)
        yield from found
