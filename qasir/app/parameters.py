"""What a request may ask with: the parameters that all endpoints which search have, and the pictures that they take."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args

from fastapi import Depends, Query, Request

from qasir.app.errors import TooLargeError
from qasir.app.filtering import Filters, asked_filters
from qasir.app.question import By, Question, Ranking, Sort
from qasir.app.settings import AppSettings
from qasir.errors import QueryError
from qasir.options import Option
from qasir.retrieval.asking import Like, Part, Picture
from qasir.retrieval.methods.asked import Numbers
from qasir.retrieval.methods.named import number_options, users_of
from qasir.vlm.query_text import check_query

MOST_HITS = 200
_LIKE_CHARACTERS = 4096


def name_of(option: Option) -> str:
    """How a request gives a method's number: as a command line does, without dashes."""
    return option.flag.removeprefix("--").replace("-", "_")


def _numbers() -> Callable[..., Numbers]:
    """A dependency with a parameter for each number of every method."""
    options = number_options()

    def asked_numbers(**given: Any) -> Numbers:
        found: dict[str, tuple[Any, ...]] = {}
        for name, option in options.items():
            values = given[name_of(option)]
            if values and get_args(option.type):
                values = [tuple(part.strip() for part in value.split(",")) for value in values]
            if values:
                found[name] = tuple(values)
        return found

    parameters = []
    for option in options.values():
        kind: Any = str if get_args(option.type) else option.type
        said = Query(description=f"{option.doc} For {', '.join(users_of(option.field))}.")
        annotation = Annotated[list[kind] | None, said]
        parameters.append(
            inspect.Parameter(name_of(option), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    asked_numbers.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return asked_numbers


@dataclass(frozen=True)
class Asked:
    """A request as it came, its numbers in range. like: VIDEO@SECONDS."""

    q: str | None = None
    like: str | None = None
    top_k: int = 20
    by: By = "video"
    per_video: int = 3
    ranking: Ranking = field(default_factory=Ranking)
    filters: Filters = field(default_factory=Filters)
    sort: Sort = "fit"
    index: int = 0

    @property
    def text(self) -> str:
        """The text that is searched for, empty where there is none."""
        return (self.q or "").strip()

    def parts(self, settings: AppSettings, picture: bytes | None = None) -> tuple[Part, ...]:
        """What is searched for; nothing where nothing is given. Raises QueryError."""
        parts: list[Part] = []
        if self.text or (self.q is not None and picture is None and self.like is None):
            if len(self.text) > settings.query_characters:
                raise QueryError(
                    f"the query has {len(self.text)} characters: say it in {settings.query_characters} at most"
                )
            check_query(self.text)
            parts.append(self.text)
        if picture is not None:
            parts.append(Picture(picture))
        if self.like is not None:
            if len(self.like) > _LIKE_CHARACTERS:
                raise QueryError(f"like: {len(self.like)} characters, and {_LIKE_CHARACTERS} at most are taken")
            parts.append(Like.parse(self.like))
        return tuple(parts)

    def question(self, settings: AppSettings, columns: Sequence[str], picture: bytes | None = None) -> Question:
        """columns: of the index's `videos`. Raises QueryError."""
        where = self.filters.condition(columns, allow_sql=settings.allow_sql)
        parts = self.parts(settings, picture)
        return Question(parts, self.top_k, self.by, self.per_video, self.ranking, where)


_Numbers = Annotated[Numbers, Depends(_numbers())]
_Text = Annotated[str | None, Query(description="What the moment shows.")]
_Place = Annotated[
    str | None, Query(description="A place in a video, to find more like it: VIDEO@SECONDS, split at the last @.")
]
_Aggregation = Annotated[str | None, Query(description="The method of ranking; /api/facets lists them.")]
_Index = Annotated[int, Query(ge=0, description="Number of the index among those served.")]


def asked(
    numbers: _Numbers,
    filters: Annotated[Filters, Depends(asked_filters)],
    q: _Text = None,
    like: _Place = None,
    top_k: Annotated[int, Query(ge=1, le=MOST_HITS, description="How many hits at most.")] = 20,
    by: Annotated[By, Query(description="Whether hits are videos, or moments of which no two overlap.")] = "video",
    per_video: Annotated[int, Query(ge=1, le=MOST_HITS, description="Of moments, how many of one video.")] = 3,
    aggregation: _Aggregation = None,
    exact: Annotated[
        bool | None, Query(description="Score every video (true), or candidates of the vector index only (false).")
    ] = None,
    sort: Annotated[
        Sort, Query(description="The order of the best hits: by fit; by date, newest first; by video and time.")
    ] = "fit",
    index: _Index = 0,
) -> Asked:
    """Of an endpoint that searches all videos."""
    return Asked(q, like, top_k, by, per_video, Ranking(aggregation, numbers, exact), filters, sort, index)


def asked_of_one(
    numbers: _Numbers,
    q: _Text = None,
    like: _Place = None,
    top_k: Annotated[int, Query(ge=1, le=MOST_HITS, description="How many moments at most.")] = 20,
    aggregation: _Aggregation = None,
    index: _Index = 0,
) -> Asked:
    """Of an endpoint that looks at one video."""
    return Asked(q, like, top_k, ranking=Ranking(aggregation, numbers), index=index)


async def picture_of(request: Request, most_bytes: int) -> bytes | None:
    """The picture that a request carries as its body; None where it carries nothing. Never holds more than it may be.
    Raises TooLargeError, and QueryError for a form."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise QueryError("the picture came in a form: send its bytes as the body, as image/jpeg say")
    body = bytearray()
    async for some in request.stream():
        body += some
        if len(body) > most_bytes:
            raise TooLargeError(f"the picture has more than {most_bytes >> 20} MiB: make it smaller")
    return bytes(body) or None
