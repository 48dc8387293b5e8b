"""Searches the indexes that a server shows, each in its newest version, many questions at a time.

A question is turned into vectors first, the texts of all that wait together; then all questions that wait are ranked
together (`qasir.app.answering`). Threads of their own do each, so that texts are encoded while others are ranked.
Further ones follow the indexes, one each.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qasir.app.answering import Found, Manner, answers
from qasir.app.batching import Gathering, joined
from qasir.app.catalogue import StoredVideo
from qasir.app.cells import stored_picture
from qasir.app.errors import NotFoundError, UnsearchableError
from qasir.app.file_states import FileStates
from qasir.app.following import EncodeTexts, Followed
from qasir.app.question import Question, Ranking
from qasir.app.time_line import TimeLine, time_line
from qasir.app.unsearched import check_parts, check_where
from qasir.app.views import Searching, View, views
from qasir.errors import QasirError, QueryError
from qasir.retrieval.asking import Embedded, Like, Part, Picture
from qasir.retrieval.checkpoint import load_checkpoint
from qasir.retrieval.hits import Hits
from qasir.retrieval.methods.asked import asked, check_indexes
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.method import Method
from qasir.retrieval.searcher import Searcher, Side
from qasir.retrieval.text_encoder import TextEncoder
from qasir.retrieval.tuned import choose
from qasir.vlm.query_text import check_query

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often the indexes are looked at."""
_RANKING_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Questions through a vector index are answered one by one; the products of others take several cores each anyway."""
_PICTURES = 2
"""How many are decoded at once: a large one takes some hundred MB meanwhile."""
_WARM_UP = "a first query"


class Engine:
    """Indexes by number, each searched alone, or two of one corpus together where there is a hybrid: then both numbers
    search the two. Closed by `close`.

    uris: the indexes; finetuned: folders of checkpoints, each for the indexes of the encoder spec it was trained on.
    ranking: how hits are ranked unless a question says otherwise. encode_texts: the text towers, where they run
    elsewhere; by default their models are loaded here, in the background. files: what became of the videos' files, for
    all routes.

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
        if all(one.opened for one in self.followed):  # else it is not known yet which checkpoint goes with which
            choose(checkpoints, {one.uri: one.opened.snapshot.spec for one in self.followed if one.opened})
        self._views = self._viewed()
        for view in self._views:  # what cannot be asked of an index is told now
            if view.is_refused:
                raise QueryError(view.why)
            if view.searching is not None:
                _check_indexed(self._manner(view, view.searching, Question(())), ())
        self._texts: Gathering[tuple[TextEncoder, str], NDArray[np.float32]] = Gathering(_encoded)
        self._questions: Gathering[tuple[Manner, tuple[Part, ...]], Found] = Gathering(
            answers, threads=_RANKING_THREADS
        )
        self.files = FileStates()
        self._is_closed = threading.Event()
        self._viewing = threading.Lock()
        self._pictures = threading.BoundedSemaphore(_PICTURES)
        self._threads = [
            threading.Thread(target=self._follow, args=[followed], name="following", daemon=True)
            for followed in self.followed
        ]
        for thread in self._threads:
            thread.start()

    def close(self, within_s: float | None = None) -> bool:
        """End its threads: whether all have ended.

        within_s: after which those that are at work still, since they load a model say, are left to end with the
        process, and whoever waits for them is told so by BusyError.
        """
        self._is_closed.set()
        self.files.close()
        until = None if within_s is None else time.monotonic() + within_s
        if until is None:
            for thread in self._threads:
                thread.join()
        have_ended = [self._texts.close(until), self._questions.close(until)]
        return all(have_ended + [joined(thread, until) for thread in self._threads])

    def view(self, index: int = 0) -> View:
        """What an index, by number, is searched through now. Raises NotFoundError."""
        if not 0 <= index < len(self.followed):
            raise NotFoundError(f"index {index}: there are {len(self.followed)}, counted from 0")
        return self._views[index]

    def waiting(self, index: int) -> str | None:
        """Why nothing or an older version of an index is searched; None where all is well."""
        return self.followed[index].problem or self._views[index].why

    # Catalogue

    def video(self, video_id: str, index: int = 0) -> StoredVideo:
        """Of an encoded video. Raises NotFoundError."""
        opened = self.view(index).opened
        found = None if opened is None else opened.rows.get(video_id)
        if found is None:
            raise NotFoundError(f"no encoded video {video_id!r} in {self.followed[index].uri}")
        return found

    def thumbnail(self, video_id: str, at_s: float, index: int = 0) -> bytes:
        """The stored JPEG of the cell there. Raises NotFoundError."""
        opened = self.view(index).opened
        video = None if opened is None else opened.rows.get(video_id)
        picture = None if opened is None or video is None else stored_picture(opened.snapshot, video, at_s)
        if picture is None:
            raise NotFoundError(f"no picture is stored of {video_id!r} at {at_s:g} s")
        return picture

    # Searching

    def search(self, question: Question, index: int = 0) -> Found:
        """Raises QueryError and SpecError for what cannot be asked, NotFoundError for an index there is not."""
        return self.search_in(self.view(index), question)

    def search_in(self, view: View, question: Question) -> Found:
        """`search` in a view that was taken before, and may not be the newest any more."""
        searching = view.searching
        if searching is None:
            self._check_unsearched(view, question)
            return Found(view, Hits("", [], exact=True))
        manner = self._manner(view, searching, question)
        _check_indexed(manner, question.parts)
        parts = tuple(self._embedded(searching.searcher, part) for part in question.parts)
        return self._questions.ask((manner, parts))

    def time_line(self, video_id: str, question: Question, index: int = 0) -> TimeLine:
        """A query, if there is one, over one video, with its top_k best moments. Raises NotFoundError when the index
        has no such video, QueryError and SpecError for what cannot be asked."""
        view, video = self.view(index), self.video(video_id, index)
        if view.searching is None:
            return time_line(view, video, (), None, question.top_k)
        method = self._manner(view, view.searching, question).method
        parts = [self._embedded(view.searching.searcher, part) for part in question.parts]
        return time_line(view, video, parts, method, question.top_k)

    def _manner(self, view: View, searching: Searching, question: Question) -> Manner:
        """How a question is asked: as it says, over what the server says. Raises QueryError or SpecError."""
        defaults = [side.default for side in searching.searcher.sides]
        method = searching.searcher.checked(self._method(defaults, question.ranking))
        exact = self.ranking.exact if question.ranking.exact is None else question.ranking.exact
        where = None if question.where is None else searching.select(question.where)
        return Manner(view, searching, method, question.by, question.top_k, question.per_video, exact, where)

    def _check_unsearched(self, view: View, question: Question) -> None:
        """Of a view in which there is nothing to search. Raises UnsearchableError where that has to be mended, and
        QueryError or SpecError for what cannot be asked."""
        if view.is_refused:
            raise UnsearchableError(view.why)
        opened = view.opened
        default = Attention() if opened is None else opened.side.default
        method = self._method([default] * (1 if self.hybrid is None else 2), question.ranking)
        if opened is not None and self.hybrid is None:
            method.check([opened.snapshot.spec], [opened.snapshot.uri])
        if question.where is not None:
            check_where(question.where, None if opened is None else opened.snapshot)
        check_parts(question.parts)

    def _method(self, defaults: Sequence[Method], ranking: Ranking) -> Method:
        """A question that names a method takes none of the numbers that the server was given for its own."""
        if ranking.aggregation is None:
            ranking = replace(self.ranking, numbers={**self.ranking.numbers, **ranking.numbers})
        return asked(defaults, ranking.aggregation, self.hybrid, ranking.numbers)

    def _embedded(self, searcher: Searcher, part: Part) -> Embedded:
        """A part by its vectors. Raises QueryError."""
        if isinstance(part, Embedded):
            return part
        return Embedded(str(part), {side.index.uri: self._vector(side, part) for side in searcher.sides})

    def _vector(self, side: Side, part: str | Picture | Like) -> NDArray[np.float32]:
        """(D,): of a text together with others that wait, of a picture or place by who asks."""
        if isinstance(part, Like):
            return part.vector(side)
        if isinstance(part, Picture):
            with self._pictures:
                return part.vector(side)
        check_query(part)
        known = side.texts.remembered(part)
        return self._texts.ask((side.texts, part)) if known is None else known

    # Following

    def _follow(self, followed: Followed) -> None:
        self._warm_up(followed)
        while not self._is_closed.wait(_LOOK_S):
            if followed.look():
                with self._viewing:
                    self._views = self._viewed()
                self._warm_up(followed)

    def _warm_up(self, followed: Followed) -> None:
        """Load the model, so that no query waits for it."""
        try:
            self.search_in(self._views[self.followed.index(followed)], Question((_WARM_UP,)))
        except (QasirError, OSError, RuntimeError) as error:  # whoever asks next is told
            if not self._is_closed.is_set():
                log.warning("%s: %s", followed.uri, error)

    def _viewed(self) -> list[View]:
        return views(self.followed, is_hybrid=self.hybrid is not None)


def _check_indexed(manner: Manner, parts: Sequence[Part]) -> None:
    """Raises NoIndexError or QueryError where the vector index is asked for and cannot answer."""
    manner.searching.searcher.is_nominated(parts, manner.method, manner.exact)


def _encoded(asked: Sequence[tuple[TextEncoder, str]]) -> list[NDArray[np.float32]]:
    """The vectors (D,) of texts, those of one encoder at once."""
    vectors: dict[tuple[TextEncoder, str], NDArray[np.float32]] = {}
    for encoder in dict.fromkeys(encoder for encoder, _ in asked):
        texts = list(dict.fromkeys(text for other, text in asked if other is encoder))
        vectors |= zip([(encoder, text) for text in texts], encoder.encode(texts), strict=True)
    return [vectors[one] for one in asked]
