"""The files of a catalogue's videos, as the endpoints that show them ask for them."""

import hashlib
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import Query

import qasir.app.ids  # noqa: F401  which says what an id in a path is
from qasir.app.catalogue import Catalogue
from qasir.app.sources import Source
from qasir.files.stores import Stores

_READERS = 32
"""Files that are looked at, and those that are read from, at the same moment; others wait."""
PAST_THE_END_S = 1.0
"""By which a time may lie beyond the end that the index knows."""
KEPT = {"Cache-Control": "private, max-age=600"}
SAFE = {"X-Content-Type-Options": "nosniff"}
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/*": {}}, "description": "The whole file."},
    206: {"content": {"video/*": {}}, "description": "The range that was asked for."},
    304: {"description": "Unchanged."},
    416: {"description": "No byte of the file is in that range."},
}

Index = Annotated[int, Query(ge=0, description="Number of the index among those served.")]
Seconds = Annotated[
    float, Query(ge=0, le=1e7, allow_inf_nan=False, description="Seconds from the first displayed frame.")
]


class Files:
    """Opens the file of a video: the id is looked up in the catalogue, and what is opened is what its row names.

    readers: for bodies that are read while they are sent.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.readers = anyio.CapacityLimiter(_READERS)
        self.lookers = anyio.CapacityLimiter(_READERS)
        self._stores = Stores()

    async def opened(self, video_id: str, index: int) -> Source:
        """To be closed. Raises NotFoundError, StorageError."""
        return await anyio.to_thread.run_sync(self._open, video_id, index, limiter=self.lookers)

    async def looked_at(self, video_id: str, index: int) -> Source:
        """The same, closed again: which version of the file there is."""
        return await anyio.to_thread.run_sync(self._look, video_id, index, limiter=self.lookers)

    def _open(self, video_id: str, index: int) -> Source:
        return Source(self.catalogue.video(video_id, index), self._stores)

    def _look(self, video_id: str, index: int) -> Source:
        source = self._open(video_id, index)
        source.close()
        return source


def changed(source: Source) -> dict[str, str]:
    """A header for what is made of a file that is not the one that was indexed: times may be off."""
    return {"X-Qasir-Changed": "true"} if source.is_changed else {}


def etag_of(what: str | bytes) -> str:
    content = what.encode(errors="surrogatepass") if isinstance(what, str) else what
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
