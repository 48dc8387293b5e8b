"""What each choice of the page searches: an index alone, or two of one corpus together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from qasir.app.cutoff import Sample
from qasir.app.following import Followed, Opened
from qasir.errors import NoIndexError, QasirError
from qasir.index.schemas import videos_columns
from qasir.retrieval.opening import together
from qasir.retrieval.searcher import Searcher, Selection


@dataclass(frozen=True, eq=False)
class Searching:
    """A searcher, and a sample of the index that says where a moment is."""

    searcher: Searcher
    sample: Sample
    _selections: WeakValueDictionary[str, Selection] = field(default_factory=WeakValueDictionary, init=False)

    def select(self, where: str) -> Selection:
        """What a SQL filter picks; the same object for all who ask for it at the same time. Raises QueryError."""
        known = self._selections.get(where)
        return known or self._selections.setdefault(where, Selection(self.searcher.select(where)))


@dataclass(frozen=True, eq=False)
class View:
    """One choice as it is now. opened: the index of its number; None while that is being made. searching: None while
    there is nothing to search, `why` says; is_refused: whether that does not mend itself by more encoding."""

    opened: Opened | None
    searching: Searching | None
    why: str | None = None
    is_refused: bool = False

    @property
    def version(self) -> int | None:
        return None if self.opened is None else self.opened.version

    @property
    def columns(self) -> Sequence[str]:
        """Of the index's table `videos`, or while it is being made those that it will have."""
        if self.opened is None:
            return list(videos_columns(1).names)
        return self.opened.snapshot.videos_dataset.schema.names

    @property
    def has_thumbnails(self) -> bool:
        return self.opened is not None and self.opened.snapshot.spec.thumbnails

    @property
    def left_out(self) -> int:
        """How many videos only one of two indexes has."""
        return 0 if self.searching is None else len(self.searching.searcher.left_out)


def views(followed: Sequence[Followed], *, is_hybrid: bool) -> list[View]:
    """One for each index, from what is open; of a hybrid, the same search for both."""
    if not is_hybrid:
        return [_alone(one.opened, one.problem) for one in followed]
    opened = [one.opened for one in followed]
    large, small = opened
    if large is None or small is None or large.sample is None or small.sample is None:
        why = next((one.problem for one in followed if one.opened is None or one.opened.sample is None), None)
        return [View(one, None, why) for one in opened]
    try:
        searcher = together(large.side, small.side)
    except NoIndexError as error:  # nothing is encoded in both yet
        return [View(one, None, str(error)) for one in opened]
    except QasirError as error:  # not of one corpus, or no longer
        return [View(one, None, str(error), is_refused=True) for one in opened]
    pointer = (large, small)[searcher.pointer]
    assert pointer.sample is not None
    searching = Searching(searcher, pointer.sample)
    return [View(one, searching) for one in opened]


def _alone(opened: Opened | None, problem: str | None) -> View:
    if opened is None:
        return View(None, None, problem)
    if opened.sample is None:
        return View(opened, None, problem)
    return View(opened, Searching(Searcher([opened.side], opened.side.default), opened.sample))
