"""What the videos of an index can be filtered by, counted; and by which methods it can be ranked."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lance import LanceDataset

from qasir.app.filtering import DATES
from qasir.app.parameters import name_of
from qasir.errors import QasirError
from qasir.index.snapshot import IS_ENCODED
from qasir.index.spec import EncoderSpec
from qasir.options import options_of
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.named import HYBRIDS, METHODS, made

FOLDERS = 200
_FOLDERS_COUNTED = 100_000
_SPARSE_GRIDS = (2, 3, 4)
_ROWS = 1 << 17  # at once: most folders are then counted without Python


@dataclass(frozen=True)
class CodecCount:
    codec: str
    videos: int


@dataclass(frozen=True)
class FolderCount:
    """videos: those beneath it too."""

    folder: str
    videos: int


@dataclass(frozen=True)
class Lengths:
    """Of the shortest and the longest video, in seconds."""

    least: float
    most: float


@dataclass(frozen=True)
class Days:
    """Of the oldest and the newest video, in UTC."""

    first: date
    last: date


@dataclass(frozen=True)
class VideoFacets:
    """Of the encoded videos. folders: those with most videos. dates: null where no video has one."""

    codecs: list[CodecCount]
    folders: list[FolderCount]
    duration_s: Lengths | None
    dates: Days | None


@dataclass(frozen=True)
class Number:
    """A number of a method, by the name it is given under. default: what counts where it is not given, unless a
    fine-tuned checkpoint was trained with another."""

    name: str
    default: Any
    doc: str


@dataclass(frozen=True)
class MethodFacet:
    """doc: how it ranks, after "every video is ranked by"."""

    name: str
    doc: str
    numbers: list[Number]


def video_facets(videos: LanceDataset) -> VideoFacets:
    """A scan of some columns of `videos`, a batch at a time."""
    dates = [name for name in DATES if name in videos.schema.names]
    codecs: Counter[str | None] = Counter()
    folders: Counter[str | None] = Counter()
    lengths, times = _Extent(), _Extent()
    columns = ["video_id", "codec", "duration_s", *dates]
    for rows in videos.scanner(columns=columns, filter=IS_ENCODED, batch_size=_ROWS).to_batches():
        codecs.update(_counted(rows["codec"]))
        folders.update(_counted(_folders(rows["video_id"])))
        lengths.add(rows["duration_s"])
        if dates:
            times.add(pc.coalesce(*[rows[name] for name in dates]))
    return VideoFacets(
        [CodecCount(codec, n) for codec, n in codecs.most_common() if codec],
        [FolderCount(folder, n) for folder, n in _with_parents(folders).most_common(FOLDERS)],
        None if lengths.least is None else Lengths(lengths.least, lengths.most),
        None if times.least is None else Days(_day(times.least), _day(times.most)),
    )


def method_facets(spec: EncoderSpec, uri: str) -> list[MethodFacet]:
    """The methods that an index of this spec can be ranked with, by the names they are asked for."""
    names = [name for name, kind in METHODS.items() if kind.argument is None]
    names += [f"{name}:{grid}" for name, kind in METHODS.items() if kind.argument for grid in _SPARSE_GRIDS]
    found = []
    for name in names:
        method = made(name)
        try:
            method.check([spec], [uri])
        except QasirError:
            continue
        found.append(MethodFacet(name, method.sentence(), numbers_of(type(method))))
    return found


def hybrid_numbers(hybrid: str) -> list[Number]:
    """The numbers of a hybrid's own."""
    return numbers_of(HYBRIDS[hybrid])


def numbers_of(kind: type[Method]) -> list[Number]:
    return [
        Number(name_of(option), option.default, option.doc)
        for option in options_of(kind)
        if option.field != kind.argument
    ]


class _Extent:
    """The least and the largest of what was added, nulls apart; None before anything was."""

    def __init__(self) -> None:
        self.least: Any = None
        self.most: Any = None

    def add(self, values: pa.Array) -> None:
        found: Mapping[str, Any] = pc.min_max(values).as_py()
        if found["min"] is not None:
            self.least = found["min"] if self.least is None else min(self.least, found["min"])
            self.most = found["max"] if self.most is None else max(self.most, found["max"])


def _counted(values: pa.Array) -> dict[Any, int]:
    counted = values.value_counts()
    return dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))


def _folders(ids: pa.Array) -> pa.Array:
    """What is before the last slash; null where there is none."""
    folder = pc.list_element(pc.split_pattern(ids, "/", max_splits=1, reverse=True), 0)
    return pc.if_else(pc.match_substring(ids, "/"), folder, None)


def _with_parents(folders: Mapping[str | None, int]) -> Counter[str]:
    """Folders with what is beneath them; of very many those that hold most."""
    found: Counter[str] = Counter()
    for folder, n in Counter(folders).most_common(_FOLDERS_COUNTED):
        parts = folder.split("/") if folder else []
        for depth in range(1, len(parts) + 1):
            found["/".join(parts[:depth])] += n
    return found


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
