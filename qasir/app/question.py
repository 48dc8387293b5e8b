"""What a request asks for."""

from dataclasses import dataclass, field
from typing import Literal

from qasir.retrieval.asking import Part
from qasir.retrieval.methods.asked import Numbers

By = Literal["video", "moment"]
Sort = Literal["fit", "date", "video"]


@dataclass(frozen=True)
class Ranking:
    """How hits are ranked; what is not given is as the server was told, or as the index's checkpoint was trained.

    numbers: {field of a method: the values given for it}.
    """

    aggregation: str | None = None
    numbers: Numbers = field(default_factory=dict)
    exact: bool | None = None


@dataclass(frozen=True)
class Question:
    """parts: what is searched for, in one or several ways. by: whether hits are videos or moments; per_video: at most
    so many moments of one. where: SQL over the columns of `videos`."""

    parts: tuple[Part, ...]
    top_k: int = 20
    by: By = "video"
    per_video: int = 3
    ranking: Ranking = field(default_factory=Ranking)
    where: str | None = None
