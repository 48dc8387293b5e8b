"""Compares a corpus with what an index knows of it."""

from dataclasses import dataclass, field

from qasir.errors import CorpusError
from qasir.index.index import VideoState
from qasir.index.schemas import ENCODED
from qasir.video.corpus import MISSING, Corpus, VideoFile
from qasir.video.video_file import UNREACHABLE, is_same_version

MOST_ATTEMPTS = 5
"""How often runs by themselves try one version of a file whose failure may pass."""
_MAY_PASS = frozenset({"io", "timed_out"})
_KILLED = "SIGKILL"
"""What the system ends processes with when memory runs out: the message of `crashed` names the signal."""


@dataclass(frozen=True)
class Changes:
    """What brings an index up to date.

    `retried` failed before and are the same file. `restored` and `removed` are ids: of stale videos whose file is again
    the version that is encoded (unchanged otherwise), and of videos that are gone.
    """

    new: list[VideoFile]
    changed: list[VideoFile]
    retried: list[VideoFile]
    removed: list[str]
    n_unchanged: int
    n_indexed: int
    restored: list[str] = field(default_factory=list)

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
    """A version of a file that failed is tried again, at most MOST_ATTEMPTS times in all, where its failure may pass;
    with `retry_failed` any is, however often it was tried.

    A video that a manifest names and that is not there counts as removed if the index has it encoded, else as new.
    """
    new, changed, retried, restored = [], [], [], []
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
        elif state.status == ENCODED and is_same_version(video.uri, state.fingerprint, video.fingerprint):
            if state.stale:
                restored.append(video.video_id)
        elif not (state.failed_version and is_same_version(video.uri, state.failed_version, video.fingerprint)):
            changed.append(video)
        elif retry_failed or (may_pass(state) and state.attempts_at(state.failed_version) < MOST_ATTEMPTS):
            retried.append(video)
    removed = sorted(set(states) - listed)
    n_todo = len(new) + len(changed) + len(retried)
    return Changes(new, changed, retried, removed, len(listed) - n_todo, len(states), restored)


def may_pass(state: VideoState) -> bool:
    """Whether a failure may have nothing to do with the file: a network, a slow disk, a machine short of memory."""
    return state.error_kind in _MAY_PASS or (state.error_kind == "crashed" and _KILLED in (state.error or ""))
