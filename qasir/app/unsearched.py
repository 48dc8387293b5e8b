"""What can be said of a question while there is nothing to search: what makes no sense is refused all the same."""

from collections.abc import Sequence
from functools import cache

import lance

from qasir.errors import UnknownVideoError
from qasir.index.schemas import videos_columns
from qasir.index.snapshot import Snapshot, picked_videos
from qasir.retrieval.asking import Like, Part, Picture, parts_of
from qasir.vlm.query_text import check_query

_SIDE = 16
"""Of the pixels that a picture is drawn with to see whether it is one."""


def check_where(where: str, snapshot: Snapshot | None) -> None:
    """snapshot: None stands for an index that this version begins. Raises QueryError."""
    if snapshot is None:
        picked_videos(_no_videos(), ["video_id"], where, {})
    else:
        snapshot.select(where)


def check_parts(asked: Sequence[Part]) -> None:
    """Raises QueryError, UnknownVideoError for a place in a video."""
    from qasir.video.picture import picture_pixels

    for part in parts_of(asked):
        if isinstance(part, str):
            check_query(part)
        elif isinstance(part, Picture):
            picture_pixels(part.source, _SIDE, "squash")
        elif isinstance(part, Like):
            raise UnknownVideoError(f"like {part}: there is no encoded video {part.video_id!r}, nor any other yet")


@cache
def _no_videos() -> lance.LanceDataset:
    return lance.write_dataset(videos_columns(1).empty_table(), "memory://videos")
