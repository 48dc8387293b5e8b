"""Follows an index: opens what jobs commit, and keeps one open version that is complete in memory before it is used.

The newest versions of both tables are looked at, which costs next to nothing; only when one has changed is the index
opened anew, by the reader's rule. Who searches the old version meanwhile goes on with it; it is given back when the
last one is done. The model and the remembered embeddings of texts stay as long as the encoder spec does.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from lance import LanceDataset
from numpy.typing import NDArray

from qasir.app.cutoff import Sample
from qasir.app.rows import VideoRows
from qasir.errors import NoIndexError, QasirError
from qasir.files.uris import absolute_uri
from qasir.index.index import Index, find_table
from qasir.index.snapshot import Snapshot
from qasir.index.spec import EncoderSpec
from qasir.index.trouble import named
from qasir.retrieval.checkpoint import Checkpoint
from qasir.retrieval.moments import finest
from qasir.retrieval.opening import side_of, text_encoder
from qasir.retrieval.searcher import Side
from qasir.retrieval.text_encoder import TextEncoder

EncodeTexts = Callable[[EncoderSpec, Sequence[str]], NDArray[np.float32]]
"""(the encoder spec of an index, texts) -> (n, D) L2-normalised vectors of its model's text tower."""

log = logging.getLogger(__name__)

_SHARE = 0.1
"""Of the time, what opening may take: a long run commits every few seconds, and opening a large index takes seconds."""
_CELLS_HELD = 1 << 28
"""Numbers (float32) of an index's cells that are kept in memory; larger ones are read as they are needed."""
_TEXTS_KEPT = 4096
"""Texts whose embeddings are remembered: 12 MB at D = 768."""
_LOOKS = 10
"""Of so many looks one is whether another index took its place."""
BEING_MADE = "it is being made: nothing is encoded yet"
NOTHING_ENCODED = "none of its videos is encoded"
GONE = "it is gone; what was there is still searched"


@dataclass(frozen=True, eq=False)
class Opened:
    """One version of an index, in memory."""

    side: Side
    rows: VideoRows
    sample: Sample | None
    """None where there is nothing to search."""

    @property
    def snapshot(self) -> Snapshot:
        return self.side.snapshot

    @property
    def version(self) -> int:
        return int(self.snapshot.videos_dataset.version)

    def is_newest(self) -> bool:
        """Whether nothing was committed since."""
        tables = (self.snapshot.videos_dataset, self.snapshot.images_dataset)
        with named(self.snapshot.uri):
            return all(table.latest_version == table.version for table in tables)


class Followed:
    """An index that may change. opened: its newest version in memory; None as long as it is being made. problem: what
    kept a newer version from being opened, or why there is nothing to search; None where all is well.

    Raises, when it is made, NoIndexError where there is nothing, and the errors of opening an index.
    """

    def __init__(self, uri: str, checkpoints: Sequence[Checkpoint] = (), encode: EncodeTexts | None = None) -> None:
        self.uri = absolute_uri(uri.rstrip("/"))
        self.opened: Opened | None = None
        self.problem: str | None = BEING_MADE
        self._checkpoints = checkpoints
        self._encode = encode
        self._texts: tuple[EncoderSpec, TextEncoder] | None = None
        self._not_before = 0.0
        self._looks = 0
        index = Index.find(uri)
        if index is not None:
            self._open(index)
        elif find_table(f"{self.uri}/runs.lance") is None:
            raise NoIndexError(f"no index at {uri}: make one with jobs/encode_corpus.py")

    def look(self, clock: Callable[[], float] = time.monotonic) -> bool:
        """Open a newer version where there is one and it is time; returns whether there is a new one. Raises
        nothing."""
        before = self.problem
        try:
            return self._look(clock)
        except (QasirError, OSError, ValueError, RuntimeError) as error:
            self.problem = self._gone() or str(error)
        finally:
            if self.problem not in (None, before):
                log.warning("%s: %s", self.uri, self.problem)
        return False

    def _look(self, clock: Callable[[], float]) -> bool:
        if self.opened is not None and self.opened.is_newest() and self._is_same(self.opened):
            self.problem = self._lack()
            return False
        begun = clock()
        if begun < self._not_before:
            return False
        try:
            index = Index.find(self.uri)
            if index is None:
                self.problem = self._without()
                return False
            self._open(index)
            return True
        finally:
            self._not_before = begun + (clock() - begun) / _SHARE

    def _without(self) -> str:
        """What is said while there is no index."""
        return BEING_MADE if self.opened is None else GONE

    def _gone(self) -> str | None:
        """What is said after trouble where that is since there is no index any more; None where there is one, or nobody
        can tell."""
        try:
            return self._without() if Index.find(self.uri) is None else None
        except (QasirError, OSError, ValueError, RuntimeError):
            return None

    def _is_same(self, opened: Opened) -> bool:
        """Whether it is still the index that was opened, and not another one in its place with the same numbers of
        versions. Looked at only now and then, and after trouble, since the table is opened for it."""
        self._looks += 1
        if self.problem == self._lack() and self._looks % _LOOKS:
            return True
        found = find_table(f"{self.uri}/videos.lance")
        return found is not None and _files(found) == _files(opened.snapshot.videos_dataset)

    def _lack(self) -> str | None:
        return NOTHING_ENCODED if self.opened is not None and self.opened.sample is None else None

    def _open(self, index: Index) -> None:
        fitting = next((checkpoint for checkpoint in self._checkpoints if checkpoint.fits(index.spec)), None)
        if self._texts is None or self._texts[0] != index.spec:
            self._texts = index.spec, self._text_encoder(index.spec, fitting)
        side = side_of(index, finetuned=fitting, texts=self._texts[1])
        self.opened = Opened(side, VideoRows(side.snapshot), _read(side))
        self.problem = self._lack()

    def _text_encoder(self, spec: EncoderSpec, checkpoint: Checkpoint | None) -> TextEncoder:
        encode = None if self._encode is None else partial(self._encode, spec)
        return text_encoder(spec, checkpoint, encode=encode, kept=_TEXTS_KEPT)


def _files(table: LanceDataset) -> list[str]:
    """The names of a table's files, which are made up anew for each."""
    return [file.path for fragment in table.get_fragments() for file in fragment.metadata.files]


def _read(side: Side) -> Sample | None:
    """Read what searches need, so that the first one does not wait for it; returns a sample, if there is anything."""
    try:
        videos = side.vectors.videos()
    except NoIndexError:  # nothing is encoded
        return None
    spec = side.index.spec
    side.snapshot.uris([])
    if side.vectors.is_indexed():
        side.snapshot.rows()
        side.snapshot.preload()
    else:
        side.vectors.load()
    cells = int(videos.n_super_images.sum()) * spec.frames_per_super_image * spec.embedding_dim
    if finest(spec) == "cell" and cells <= _CELLS_HELD:
        side.vectors.load("cell")
    return Sample(side)
