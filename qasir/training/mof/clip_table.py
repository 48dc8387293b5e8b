"""What was decoded of a corpus, once: a Lance table of the many frames of each video, uint8, of which a batch at a time
is in memory."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments
from numpy.typing import NDArray

from qasir.errors import QasirError, SpecError
from qasir.training.mof.clip_reading import read_here
from qasir.training.mof.clips import CLIPS_SCHEMA
from qasir.training.mof.tables import SHAPE, opened, overwrite
from qasir.video.corpus import Corpus
from qasir.video.tile import Tiling

log = logging.getLogger(__name__)

_NAMED = 5
_MOST_FAILED, _FROM = 0.1, 20
"""The largest share of videos that may fail, from so many videos up: the rule that encoding has by default."""

ReadClips = Callable[[Sequence[pa.Table], Tiling, int], Iterable[pa.Table]]
"""Tables of video_id and uri, the tiling, how many frames of each -> the `READ_SCHEMA` tables that `read_clips` makes
of them, in any order."""


class ClipTable:
    """The decoded frames of a corpus. side: S, pixels a side."""

    def __init__(self, uri: str) -> None:
        self._dataset = opened(uri)
        about = json.loads((self._dataset.schema.metadata or {})[SHAPE])
        self.side: int = about["side"]
        self.about: dict[str, Any] = about
        self.video_ids: list[str] = self._dataset.to_table(columns=["video_id"])["video_id"].to_pylist()
        self._row = {video_id: row for row, video_id in enumerate(self.video_ids)}

    @classmethod
    def write(cls, uri: str, tables: Iterable[pa.Table], about: dict[str, Any]) -> "ClipTable":
        """Write `CLIPS_SCHEMA` tables as they come and commit at the end; a kill leaves no table. about: must hold
        `side`."""
        schema = CLIPS_SCHEMA.with_metadata({SHAPE: json.dumps(about).encode()})
        fragments: list[FragmentMetadata] = []
        for table in tables:
            fragments += write_fragments(table.cast(schema), uri, schema=schema)
        overwrite(uri, schema, fragments)
        return cls(uri)

    def load(self, video_ids: Sequence[str]) -> list[NDArray[np.uint8]]:
        """For each video (n_frames, S, S, 3)."""
        rows = self._dataset.take([self._row[video_id] for video_id in video_ids], columns=["n_frames", "frames"])
        return [
            np.frombuffer(frames, np.uint8).reshape(n, self.side, self.side, 3)
            for n, frames in zip(rows["n_frames"].to_pylist(), rows["frames"].to_pylist(), strict=True)
        ]


def clips_of(corpus: Corpus, uri: str, tiling: Tiling, n_frames: int, read: ReadClips = read_here) -> ClipTable:
    """The table of clips of a corpus' videos; one that is there already, made the same way, is taken as it is.

    Videos that cannot be read are left out and named in the log, with the reason. Raises SpecError when the table
    there was made otherwise; QasirError, and no table is made, when no video can be read, when more than a tenth cannot
    (of 20 or more), or when `read` says nothing of a video.
    """
    about = {
        "side": tiling.image_size, "grid": tiling.grid, "fps": str(tiling.rate), "n_frames": n_frames,
        "videos": {video.video_id: video.fingerprint for video in corpus.videos},
    }  # fmt: skip
    if tiling.max_gap is not None:
        about["max_gap"] = str(tiling.max_gap)
    there = _made_before(uri, about)
    if there is not None:
        return there
    videos = [pa.table({"video_id": [video.video_id], "uri": [video.uri]}) for video in corpus.videos]
    seen = _Seen([video.video_id for video in corpus.videos], n_frames)
    table = ClipTable.write(uri, seen.readable(read(videos, tiling, n_frames)), about)
    seen.tell()
    return table


def _made_before(uri: str, about: dict[str, Any]) -> ClipTable | None:
    if not Path(uri).exists():
        return None
    try:
        table = ClipTable(uri)
    except (ValueError, OSError):
        return None  # a killed run left files and no table
    changed = [name for name in {**about, **table.about} if table.about.get(name) != about.get(name)]
    if changed:
        raise SpecError(f"{uri} was made from other videos or settings ({', '.join(changed)}): choose another folder")
    return table


class _Seen:
    """Which of the videos came back, which could not be read, and which have too few frames."""

    def __init__(self, video_ids: Sequence[str], n_frames: int) -> None:
        self.n_videos = len(video_ids)
        self.n_frames = n_frames
        self.missing = dict.fromkeys(video_ids)
        self.failed: list[str] = []
        self.short: list[str] = []

    def readable(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """`CLIPS_SCHEMA` tables of what could be read. Raises QasirError at their end when that is too little."""
        for table in tables:
            for row in table.select(["video_id", "n_there", "error"]).to_pylist():
                self.missing.pop(row["video_id"], None)
                if row["error"]:
                    self.failed.append(f"{row['video_id']} ({row['error']})")
                elif row["n_there"] < self.n_frames:
                    self.short.append(row["video_id"])
            table = table.filter(table["error"].is_null()).select(CLIPS_SCHEMA.names)
            if len(table):
                yield table
        self._check()

    def _check(self) -> None:
        if self.missing:
            raise QasirError(f"{len(self.missing)} of {self.n_videos} videos did not come back: {_some(self.missing)}")
        if len(self.failed) == self.n_videos:
            raise QasirError(f"not one of {self.n_videos} videos can be read: {_some(self.failed)}")
        if self.n_videos >= _FROM and len(self.failed) > _MOST_FAILED * self.n_videos:
            raise QasirError(
                f"{len(self.failed)} of {self.n_videos} videos cannot be read, more than {_MOST_FAILED:.0%}: mend them "
                f"or take them out: {_some(self.failed)}"
            )

    def tell(self) -> None:
        if self.failed:
            log.warning(
                "%d of %d videos cannot be read and are left out: %s",
                len(self.failed), self.n_videos, _some(self.failed),
            )  # fmt: skip
        if self.short:
            log.warning(
                "%d videos gave fewer than %d frames, %s first: some of their frames are taken more than once",
                len(self.short), self.n_frames, self.short[0],
            )  # fmt: skip


def _some(named: Iterable[str]) -> str:
    first = list(named)
    return "; ".join(first[:_NAMED]) + (f"; and {len(first) - _NAMED} more" if len(first) > _NAMED else "")
