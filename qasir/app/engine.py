"""Searches the indexes that a server shows, each in its newest version, many questions at a time."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from qasir.app.batching import Gathering
from qasir.app.catalogue import StoredVideo
from qasir.app.errors import NotFoundError
from qasir.app.following import EncodeTexts, Followed, Opened
from qasir.app.question import Question, Ranking
from qasir.errors import NoIndexError, QasirError
from qasir.index.filters import quote
from qasir.retrieval.checkpoint import load_checkpoint
from qasir.retrieval.hits import Hit
from qasir.retrieval.methods.asked import asked, check_indexes
from qasir.retrieval.methods.method import Method
from qasir.retrieval.opening import together
from qasir.retrieval.searcher import Searcher

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often the indexes are looked at."""


@dataclass(frozen=True)
class View:
    """What one choice of the page searches, as it is now. searcher: None while there is nothing to search, `why`
    says."""

    opened: Opened | None
    searcher: Searcher | None
    why: str | None = None


@dataclass(frozen=True)
class Found:
    """Hits of a question, and what they were found in and by."""

    view: View
    hits: Sequence[Hit]
    exact: bool
    method: Method | None


class Engine:
    """Indexes by number, each searched alone, or two of one corpus together where there is a hybrid: then both numbers
    search the two. Closed by `close`.

    uris: the indexes; finetuned: folders of checkpoints, each for the indexes of the encoder spec it was trained on.
    ranking: how hits are ranked unless a question says otherwise. encode_texts: the text towers, where they run
    elsewhere; by default their models are loaded here, in the background.

    Raises NoIndexError where there is none, and what else opening an index or a checkpoint raises.
    """

    def __init__(
        self,
        uris: Sequence[str],
        *,
        finetuned: Sequence[str] = (),
        hybrid: str | None = None,
        ranking: Ranking | None = None,
        encode_texts: EncodeTexts | None = None,
    ) -> None:
        if hybrid is not None:
            check_indexes(len(uris), hybrid)
        self.hybrid = hybrid
        self.ranking = ranking or Ranking()
        checkpoints = [load_checkpoint(folder) for folder in finetuned]
        self.followed = [Followed(uri, checkpoints, encode_texts) for uri in uris]
        self._views = self._viewed()
        self._gathering: Gathering[tuple[View, Question], Found] = Gathering(self._answered)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End its threads."""
        self._is_closed.set()
        self._thread.join()
        self._gathering.close()

    def view(self, index: int = 0) -> View:
        """What an index, by number, is searched through now. Raises NotFoundError."""
        if not 0 <= index < len(self.followed):
            raise NotFoundError(f"index {index}: there are {len(self.followed)}, counted from 0")
        return self._views[index]

    # Catalogue

    def video(self, video_id: str, index: int = 0) -> StoredVideo:
        """Of an encoded video. Raises NotFoundError."""
        opened = self.view(index).opened
        found = None if opened is None else opened.rows.get(video_id)
        if found is None:
            raise NotFoundError(f"no encoded video {video_id!r} in {self.followed[index].uri}")
        return found

    def thumbnail(self, video_id: str, at_s: float, index: int = 0) -> bytes:
        """The stored JPEG of the super image there. Raises NotFoundError."""
        self.video(video_id, index)
        opened = self.view(index).opened
        assert opened is not None
        if opened.snapshot.spec.thumbnails:
            condition = f"video_id = {quote(video_id)} AND start_s <= {at_s} AND end_s >= {at_s}"
            rows = opened.snapshot.images_dataset.to_table(columns=["thumbnail"], filter=condition)
            if len(rows):
                return bytes(rows["thumbnail"][0].as_py())
        raise NotFoundError(f"no picture is stored of {video_id!r} at {at_s:g} s")

    # Searching

    def search(self, question: Question, index: int = 0) -> Found:
        """Raises QueryError and SpecError for what cannot be asked, NotFoundError for an index there is not."""
        return self._gathering.ask((self.view(index), question))

    def _answered(self, asked: Sequence[tuple[View, Question]]) -> list[Found | Exception]:
        answers: list[Found | Exception] = []
        for view, question in asked:
            try:
                answers.append(self._answer(view, question))
            except QasirError as error:
                answers.append(error)
        return answers

    def _answer(self, view: View, question: Question) -> Found:
        searcher = view.searcher
        if searcher is None:
            return Found(view, [], True, None)
        method = self.method(searcher, question.ranking)
        parts, top_k, where, exact = question.parts, question.top_k, question.where, question.ranking.exact
        if question.by == "moment":
            moments = searcher.search_moments(
                parts, top_k, method, per_video=question.per_video, where=where, exact=exact
            )
            return Found(view, moments, moments.exact, method)
        hits = searcher.search(parts, top_k, method, where=where, exact=exact)
        return Found(view, hits, hits.exact, method)

    def method(self, searcher: Searcher, ranking: Ranking) -> Method:
        """What a question's ranking comes to, over the server's."""
        defaults = [side.default for side in searcher.sides]
        aggregation = ranking.aggregation or self.ranking.aggregation
        return asked(defaults, aggregation, self.hybrid, {**self.ranking.numbers, **ranking.numbers})

    # Following

    def _follow(self) -> None:
        while not self._is_closed.wait(_LOOK_S):
            changed = [followed.look() for followed in self.followed]
            if any(changed):
                self._views = self._viewed()

    def _viewed(self) -> list[View]:
        """What each number searches, from what is open."""
        opened = [followed.opened for followed in self.followed]
        if self.hybrid is None:
            return [_alone(one, followed.problem) for one, followed in zip(opened, self.followed, strict=True)]
        large, small = opened
        if large is None or small is None:
            why = next((followed.problem for followed in self.followed if followed.opened is None), None)
            return [View(one, None, why) for one in opened]
        try:
            searcher = together(large.side, small.side)
        except QasirError as error:
            return [View(one, None, str(error)) for one in opened]
        return [View(one, searcher) for one in opened]


def _alone(opened: Opened | None, problem: str | None) -> View:
    if opened is None:
        return View(None, None, problem)
    try:
        opened.side.vectors.videos()
    except NoIndexError as error:
        return View(opened, None, str(error))
    return View(opened, Searcher([opened.side], opened.side.default))
