"""A list of the videos that scores are over, such as those of a paper's split, which an index may hold more than."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qasir.errors import QueryError
from qasir.evaluation.query import Query, apart
from qasir.files.text import read_text
from qasir.retrieval.searcher import Searcher

log = logging.getLogger(__name__)


def read_video_ids(path: str | Path, *, strip_prefix: str = "") -> list[str]:
    """The ids of a file that has one a line, each once, without a prefix. Raises QueryError for a file that cannot be
    read as text or has none."""
    text = read_text(path, "list of videos", QueryError)
    ids = list(dict.fromkeys(line.strip().removeprefix(strip_prefix) for line in text.split("\n") if line.strip()))
    if not ids:
        raise QueryError(f"{path}: no video ids in it")
    return ids


def about(queries: Sequence[Query], video_ids: Sequence[str]) -> list[Query]:
    """The queries that a listed video is right for. Raises QueryError where there are none."""
    listed = set(video_ids)
    found = [query for query in queries if not listed.isdisjoint(query.video_ids)]
    if not found:
        raise QueryError(
            f"none of the {len(queries)} queries is about one of the {len(listed)} listed videos: "
            f"{apart(queries, video_ids)}"
        )
    return found


@dataclass(frozen=True)
class Listed:
    """What is left of an index when only listed videos count. searcher: of those that are there; n_listed: how many
    videos are on the list; missing: those of them that the index lacks; n_others: how many queries are about no video
    on the list (`about`), which have no part in anything."""

    searcher: Searcher
    n_listed: int
    missing: list[str]
    n_others: int

    @classmethod
    def of(cls, searcher: Searcher, video_ids: Sequence[str], *, n_others: int) -> "Listed":
        """Raises QueryError where no video of the list is there."""
        listed = set(video_ids)
        missing = [video_id for video_id in video_ids if video_id not in searcher.videos().place]
        found = cls(searcher.of_some(listed), len(listed), missing, n_others)
        if missing:
            log.warning(
                "%d of %d listed videos are not in the index at %s, %s first",
                len(missing), len(listed), searcher.side.index.uri, missing[0],
            )  # fmt: skip
        return found

    def sentence(self) -> str:
        lacking = f", of which the index lacks {len(self.missing)}" if self.missing else ""
        others = f"; {self.n_others} queries about others are left out" if self.n_others else ""
        return f"over the {self.n_listed} listed videos only{lacking}{others}"

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` holds of it."""
        return {"listed": self.n_listed, "not_in_index": len(self.missing), "queries_about_others": self.n_others}
