"""Compares a corpus with what an index knows of it."""

from dataclasses import dataclass

from qasir.errors import CorpusError
from qasir.index.index import VideoState
from qasir.index.schemas import ENCODED, FAILED
from qasir.video.corpus import MISSING, Corpus, VideoFile
from qasir.video.video_file import UNREACHABLE


@dataclass(frozen=True)
class Changes:
    """What brings an index up to date. `removed` are ids; `retried` failed before and are the same file."""

    new: list[VideoFile]
    changed: list[VideoFile]
    retried: list[VideoFile]
    removed: list[str]
    n_unchanged: int
    n_indexed: int

    @property
    def todo(self) -> list[VideoFile]:
        return [*self.new, *self.changed, *self.retried]

    def check_removed(self, max_removed: float, uri: str) -> None:
        """Raises CorpusError when more than this share of the index would be removed: a half-mounted disk looks so."""
        if len(self.removed) > max_removed * self.n_indexed:
            raise CorpusError(
                f"{len(self.removed)} of the {self.n_indexed} videos of {uri} are gone, {self.removed[0]!r} first: "
                f"more than --max-removed {max_removed:g} allows. Nothing was changed. Is every disk mounted? If they "
                "are really gone, raise --max-removed"
            )


def compare(corpus: Corpus, states: dict[str, VideoState], *, retry_failed: bool = False) -> Changes:
    """A video that a manifest names and that is not there counts as removed if the index has it encoded, else as
    new."""
    new, changed, retried = [], [], []
    listed: set[str] = set()
    for video in corpus.videos:
        state = states.get(video.video_id)
        if video.fingerprint == MISSING and state is not None and state.status == ENCODED:
            continue
        if video.fingerprint == UNREACHABLE and state is not None:
            listed.add(video.video_id)  # whatever is known of it stays as it is
            continue
        listed.add(video.video_id)
        if state is None:
            new.append(video)
        elif state.fingerprint != video.fingerprint:
            changed.append(video)
        elif retry_failed and state.status == FAILED:
            retried.append(video)
    removed = sorted(set(states) - listed)
    n_todo = len(new) + len(changed) + len(retried)
    return Changes(new, changed, retried, removed, len(listed) - n_todo, len(states))
