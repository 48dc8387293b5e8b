"""Opens indexes for searching: puts together a searcher's sides."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from qasir.errors import NoIndexError, QueryError
from qasir.index.index import Index
from qasir.index.schemas import ENCODED
from qasir.index.snapshot import Snapshot
from qasir.retrieval.checkpoint import Checkpoint, load_checkpoint
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.fusion import Fusion
from qasir.retrieval.moments import MomentRule
from qasir.retrieval.ranker import ExactRanker, Ranker
from qasir.retrieval.searcher import Searcher, Side
from qasir.retrieval.text_encoder import TextEncoder
from qasir.retrieval.tuned import TunedVectors, choose, text_side
from qasir.retrieval.vector_source import HeldVectors, StoredVectors, VectorSource

log = logging.getLogger(__name__)

_NAMED = 5

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

    Raises NoIndexError when one is missing, QueryError when they are over different corpora.
    """
    return open_searcher([large, small])


def open_searcher(
    uris: Sequence[str], finetuned: Sequence[str] = (), *, make_ranker: MakeRanker = ExactRanker
) -> Searcher:
    """One index or two, each through the fine-tuned checkpoint that fits it if there is one."""
    opened = [Index.open(uri) for uri in uris]
    tuned = choose([load_checkpoint(folder) for folder in finetuned], {index.uri: index.spec for index in opened})
    sides = [side_of(index, finetuned=tuned.get(index.uri), make_ranker=make_ranker) for index in opened]
    return Searcher(sides, sides[0].default) if len(sides) == 1 else together(*sides)


def searcher_of(
    index: Index,
    *,
    version: str | None = None,
    finetuned: Checkpoint | None = None,
    rule: MomentRule | None = None,
) -> Searcher:
    """A searcher of one open index."""
    side = side_of(index, version=version, finetuned=finetuned)
    return Searcher([side], side.default, rule)


def side_of(
    index: Index,
    *,
    version: str | None = None,
    finetuned: Checkpoint | None = None,
    make_ranker: MakeRanker = ExactRanker,
) -> Side:
    """An index as it is now, or at a tag, and what searching it takes."""
    source: VectorSource = StoredVectors(index.snapshot(version))
    if finetuned is not None:
        finetuned.check(index.spec, index.uri)
        source = TunedVectors(source, finetuned)
    checkpoint = finetuned or text_side(index.spec)
    vectors = HeldVectors(source)
    texts = TextEncoder(index.spec, checkpoint)
    default = Attention() if checkpoint is None else checkpoint.recipe.scoring
    return Side(index, vectors, texts, make_ranker(vectors), default)


def together(large: Side, small: Side) -> Searcher:
    """A searcher of two indexes of one corpus. Videos that failed in one of them are left out.

    Raises QueryError when one index knows videos that the other does not, and says which are missing where.
    """
    _check_same_corpus(large, small)
    lists = [side.ranker.videos() for side in (large, small)]
    both = sorted(set(lists[0].video_ids) & set(lists[1].video_ids))
    if not both:
        raise NoIndexError(f"no video is encoded in both {large.index.uri} and {small.index.uri}")
    left_out = len(set(lists[0].video_ids) ^ set(lists[1].video_ids))
    if left_out:
        log.warning("%d videos are left out: encoded in one index and failed in the other", left_out)
    numbers = [np.array([videos.place[video_id] for video_id in both], dtype=np.int64) for videos in lists]
    return Searcher([large, small], Fusion(large=large.default, small=small.default), among=numbers)


def _check_same_corpus(large: Side, small: Side) -> None:
    known = {}
    for side in (large, small):
        rows = side.snapshot.videos(["video_id", "status"])
        known[side.index.uri] = dict(zip(rows["video_id"].to_pylist(), rows["status"].to_pylist(), strict=True))
    complaints = []
    for here, there in ((large.index.uri, small.index.uri), (small.index.uri, large.index.uri)):
        missing = sorted(v for v, status in known[there].items() if status == ENCODED and v not in known[here])
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            complaints.append(f"{here} lacks {', '.join(missing[:_NAMED])}{more}")
    if complaints:
        raise QueryError(f"the indexes are not over one corpus: {'; '.join(complaints)}")
