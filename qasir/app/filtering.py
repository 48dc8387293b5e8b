"""Filters over videos by what a form asks: folder, codec, length and date, beside SQL where that is allowed.

**Folder**: of a video's id, "a/b" of "a/b/name"; those beneath it count too. **Date**: when the video was recorded, by
its container, else when its file was changed last; days are whole ones in UTC, the first and the last included, and a
video of which neither is known has no date. All that is asked must be true of a video.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import Query

from qasir.app.conditions import check_cheap
from qasir.errors import QueryError
from qasir.index.filters import check_condition, quote

DATES = ("recorded_at", "modified_at")
"""Columns of `videos`, the first that is known being a video's date. Older indexes lack them."""
_MOST_CHARACTERS = 1000
_MOST_CODECS = 100


@dataclass(frozen=True)
class Filters:
    """What is asked of the videos that are searched. where: SQL over the columns of `videos`; since, until: days."""

    where: str | None = None
    folder: str | None = None
    codecs: tuple[str, ...] = ()
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    since: date | None = None
    until: date | None = None

    def condition(self, columns: Collection[str], *, allow_sql: bool = True) -> str | None:
        """One SQL condition over `videos`, which has these columns; None where nothing is asked. Raises QueryError."""
        parts = [*self._of_names(), *self._of_lengths(), *self._of_dates(columns)]
        if self.where is not None:
            if not allow_sql:
                raise QueryError("this server takes no SQL filters (--no-allow-sql): use folder, codec, length or date")
            _check_length("where", self.where)
            try:
                check_condition(self.where)
            except ValueError as error:
                raise QueryError(f"the filter {self.where!r} is not a SQL condition ({error})") from None
            check_cheap(self.where)
            if not parts:  # as it was typed, for errors to quote
                return self.where
            parts.append(f"({self.where})")
        return " AND ".join(parts) if parts else None

    def _of_names(self) -> list[str]:
        parts = []
        if self.folder is not None and (folder := self.folder.strip("/")):
            _check_length("folder", folder)
            parts.append(f"starts_with(video_id, {quote(folder + '/')})")
        if self.codecs:
            if len(self.codecs) > _MOST_CODECS:
                raise QueryError(f"{len(self.codecs)} codecs: name {_MOST_CODECS} at most")
            for codec in self.codecs:
                _check_length("codec", codec)
            parts.append(f"codec IN ({', '.join(map(quote, self.codecs))})")
        return parts

    def _of_lengths(self) -> list[str]:
        least, most = self.min_duration_s, self.max_duration_s
        if least is not None and most is not None and least > most:
            raise QueryError(f"no video lasts at least {least:g} s and at most {most:g} s")
        parts = [] if least is None else [f"duration_s >= {least!r}"]
        return parts if most is None else [*parts, f"duration_s <= {most!r}"]

    def _of_dates(self, columns: Collection[str]) -> list[str]:
        if self.since is None and self.until is None:
            return []
        if self.since is not None and self.until is not None and self.since > self.until:
            raise QueryError(f"no day is from {self.since} on and up to {self.until}")
        known = [name for name in DATES if name in columns]
        if not known:
            raise QueryError(
                "this index does not say when its videos were recorded or changed, since an older qasir made "
                "it: jobs/reindex_corpus.py adds that; until then leave out from and to"
            )
        when = f"coalesce({', '.join(known)})"
        parts = [] if self.since is None else [f"{when} >= timestamp '{self.since} 00:00:00'"]
        return parts if self.until is None else [*parts, f"{when} <= timestamp '{self.until} 23:59:59.999999'"]


def asked_filters(
    where: Annotated[str | None, Query(description="SQL over the columns of `videos`, where that is allowed.")] = None,
    folder: Annotated[str | None, Query(description="Of the video's id, with all beneath it.")] = None,
    codec: Annotated[list[str] | None, Query(description="One of these; give it again for another.")] = None,
    min_duration_s: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    max_duration_s: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    since: Annotated[date | None, Query(alias="from", description="First day, in UTC, 2026-01-31 say.")] = None,
    until: Annotated[date | None, Query(alias="to", description="Last day, in UTC.")] = None,
) -> Filters:
    """The filters of a request: a dependency of every endpoint that searches."""
    return Filters(where, folder, tuple(codec or ()), min_duration_s, max_duration_s, since, until)


def _check_length(name: str, text: str) -> None:
    if len(text) > _MOST_CHARACTERS:
        raise QueryError(f"{name}: {len(text)} characters, and {_MOST_CHARACTERS} at most are taken")
