"""Opens indexes for searching: puts together a searcher's sides."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qasir.errors import NoIndexError, QueryError
from qasir.index.index import Index
from qasir.index.schemas import ENCODED
from qasir.index.snapshot import Snapshot
from qasir.index.spec import EncoderSpec
from qasir.retrieval.checkpoint import Checkpoint, load_checkpoint
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.fusion import Fusion
from qasir.retrieval.moments import MomentRule
from qasir.retrieval.ranker import ExactRanker, Ranker
from qasir.retrieval.searcher import Searcher, Side
from qasir.retrieval.text_encoder import KEPT, Encode, TextEncoder
from qasir.retrieval.tuned import TunedVectors, choose, text_side
from qasir.retrieval.vector_source import HeldVectors, StoredVectors, VectorSource

log = logging.getLogger(__name__)

_NAMED = 5

MOST_APART = 0.1
"""The largest share of the larger of two indexes' videos that the other may not know, or have in another version: a
night's additions, but not another corpus. One video is always allowed."""

MakeRanker = Callable[[VectorSource], Ranker]


def open_index(
    uri: str, *, version: str | None = None, finetuned: str | None = None, rule: MomentRule | None = None
) -> Searcher:
    """Open an index for searching, at its newest version or at a tag of re-indexing, through a fine-tuned checkpoint's
    folder if one is given (an index that a checkpoint was applied to knows it). rule: what counts as one moment.

    Raises NoIndexError when there is none at `uri`, or no such version; ModelError for a checkpoint that cannot be read
    and SpecError for one of another encoder spec.
    """
    checkpoint = load_checkpoint(finetuned) if finetuned is not None else None
    return searcher_of(Index.open(uri), version=version, finetuned=checkpoint, rule=rule)


def open_tables(uri: str, *, version: str | None = None) -> Snapshot:
    """The tables of an index as they belong together, for analysis. Raises NoIndexError."""
    return Index.open(uri).snapshot(version)


def open_hybrid(large: str, small: str) -> Searcher:
    """Open two indexes of one corpus for hybrid search: the expensive model's, then the cheap one's.

    Videos that one of them lacks are left out (`together`), and `left_out` of the searcher names them. Raises
    NoIndexError when an index is missing, QueryError when they are over different corpora.
    """
    return open_searcher([large, small])


def open_searcher(
    uris: Sequence[str],
    finetuned: Sequence[str] = (),
    *,
    make_ranker: MakeRanker = ExactRanker,
    encode: Callable[[EncoderSpec], Encode] | None = None,
) -> Searcher:
    """One index or two, each through the fine-tuned checkpoint that fits it if there is one. encode: what encodes texts
    for an index of a spec, where that is not its model's text tower."""
    opened = [Index.open(uri) for uri in uris]
    tuned = choose([load_checkpoint(folder) for folder in finetuned], {index.uri: index.spec for index in opened})
    sides = []
    for index in opened:
        finetuned_to = tuned.get(index.uri)
        texts = None if encode is None else text_encoder(index.spec, finetuned_to, encode=encode(index.spec))
        sides.append(side_of(index, finetuned=finetuned_to, make_ranker=make_ranker, texts=texts))
    return Searcher(sides, sides[0].default) if len(sides) == 1 else together(*sides)


def searcher_of(
    index: Index,
    *,
    version: str | None = None,
    finetuned: Checkpoint | None = None,
    rule: MomentRule | None = None,
    texts: TextEncoder | None = None,
) -> Searcher:
    """A searcher of one open index. texts: as `side_of` takes it."""
    side = side_of(index, version=version, finetuned=finetuned, texts=texts)
    return Searcher([side], side.default, rule)


def side_of(
    index: Index,
    *,
    version: str | None = None,
    finetuned: Checkpoint | None = None,
    make_ranker: MakeRanker = ExactRanker,
    texts: TextEncoder | None = None,
) -> Side:
    """An index as it is now, or at a tag, and what searching it takes.

    texts: what encodes texts for it, where there is one already, made by `text_encoder` for the same encoder spec.
    """
    source: VectorSource = StoredVectors(index.snapshot(version))
    if finetuned is not None:
        finetuned.check(index.spec, index.uri)
        source = TunedVectors(source, finetuned)
    vectors = HeldVectors(source)
    texts = texts or text_encoder(index.spec, finetuned)
    default = Attention() if texts.checkpoint is None else texts.checkpoint.recipe.scoring
    return Side(index, vectors, texts, make_ranker(vectors), default)


def text_encoder(
    spec: EncoderSpec, finetuned: Checkpoint | None = None, *, encode: Encode | None = None, kept: int = KEPT
) -> TextEncoder:
    """What encodes texts for indexes of a spec, through a checkpoint: this one, or the one that was applied to them.

    encode: the text tower, where it runs elsewhere. kept: how many embeddings are remembered.
    """
    return TextEncoder(spec, finetuned or text_side(spec), encode=encode, kept=kept)


def together(large: Side, small: Side) -> Searcher:
    """A searcher of two indexes of one corpus, of the videos that both have in the same version of the file.

    The others are left out, and the searcher says which (`left_out`): those that failed in one index, those that it
    does not know yet or no longer, since it is a run behind, and those of which it has another version. Raises
    QueryError when more than MOST_APART of the larger index's videos are of the latter two kinds, and says which;
    NoIndexError when none are left.
    """
    lists = [side.ranker.videos() for side in (large, small)]
    apart = _Apart.of(large, small)
    both = sorted((set(lists[0].video_ids) & set(lists[1].video_ids)) - apart.changed)
    apart.check(max(len(videos.video_ids) for videos in lists))
    if not both:
        raise NoIndexError(f"no video is encoded in both {large.index.uri} and {small.index.uri}")
    left_out = sorted((set(lists[0].video_ids) | set(lists[1].video_ids)) - set(both))
    if left_out:
        log.warning("%d videos are left out: %s", len(left_out), apart.sentence(left_out))
    numbers = [np.array([videos.place[video_id] for video_id in both], dtype=np.int64) for videos in lists]
    default = Fusion(large=large.default, small=small.default)
    return Searcher([large, small], default, among=numbers, left_out=left_out)


@dataclass(frozen=True)
class _Apart:
    """What two indexes of one corpus do not have in common, beside failures. lacking: {index: the encoded videos of the
    other one that it does not know}; changed: videos that both have, of different versions of the file."""

    lacking: dict[str, list[str]]
    changed: set[str]

    @classmethod
    def of(cls, large: Side, small: Side) -> "_Apart":
        known: list[dict[str, tuple[str, str]]] = []
        for side in (large, small):
            rows = side.snapshot.videos(["video_id", "status", "fingerprint"])
            columns = (rows[name].to_pylist() for name in ("status", "fingerprint"))
            known.append(dict(zip(rows["video_id"].to_pylist(), zip(*columns, strict=True), strict=True)))
        lacking = {
            side.index.uri: sorted(
                v for v, (status, _) in known[1 - i].items() if status == ENCODED and v not in known[i]
            )
            for i, side in enumerate((large, small))
        }
        if any(side.index.spec.features for side in (large, small)):
            return cls(lacking, set())  # fingerprints are of files of features, not of one video's
        changed = {
            v
            for v, (status, fingerprint) in known[0].items()
            if status == ENCODED and v in known[1] and known[1][v][0] == ENCODED and known[1][v][1] != fingerprint
        }
        return cls(lacking, changed)

    @property
    def n(self) -> int:
        return len(self.changed) + sum(map(len, self.lacking.values()))

    def check(self, n_videos: int) -> None:
        """Raises QueryError when these are too many for two indexes of one corpus, of which the larger one has so many
        videos."""
        if self.n > max(1, MOST_APART * n_videos):
            complaints = [f"{uri} lacks {_some(videos)}" for uri, videos in self.lacking.items() if videos]
            if self.changed:
                complaints.append(f"they have different versions of {_some(sorted(self.changed))}")
            raise QueryError(
                f"the indexes are not over one corpus: {'; '.join(complaints)} (more than {MOST_APART:.0%} of the "
                "videos): bring both up to date by jobs/reindex_corpus.py, or name two of one corpus"
            )

    def sentence(self, left_out: Sequence[str]) -> str:
        """Why these are left out."""
        lacking = len({video_id for videos in self.lacking.values() for video_id in videos} & set(left_out))
        changed = len(self.changed & set(left_out))
        return (
            f"{lacking} are known to one index only, {changed} in different versions of the file, "
            f"{len(left_out) - lacking - changed} encoded in one index only"
        )


def _some(video_ids: Sequence[str]) -> str:
    more = f" and {len(video_ids) - _NAMED} more" if len(video_ids) > _NAMED else ""
    return ", ".join(video_ids[:_NAMED]) + more
