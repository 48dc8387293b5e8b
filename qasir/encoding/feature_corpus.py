"""Features of frames as a corpus to encode: their videos, and what each one's features are in an index's rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qasir.encoding.durations import read_durations
from qasir.encoding.import_options import POOLS, ImportOptions
from qasir.errors import FeaturesError, SpecError
from qasir.features.opening import Features, open_features
from qasir.features.shaping import Columns, Shaping
from qasir.files.uris import shown, stored_path
from qasir.index.spec import check_fps, check_grid
from qasir.video.corpus import Corpus
from qasir.video.video_file import VideoFile

_NAMED = 5


@dataclass(frozen=True)
class VideoFeatures:
    """The rows that a video's features are: vectors (M, D) float32, starts and ends (M,) in seconds, how many frames
    each stands for, and the times of those; n_frames in duration_s seconds."""

    vectors: NDArray[np.float32]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    n_valid: NDArray[np.int32]
    cell_s: pa.ListArray
    n_frames: int
    duration_s: float

    def table(self, video: VideoFile) -> pa.Table:
        """The columns of `super_images` but its vectors."""
        n = len(self.vectors)
        return pa.table(
            {
                "video_id": [video.video_id] * n, "fingerprint": [video.fingerprint] * n,
                "position": np.arange(n, dtype=np.int32), "start_s": self.start_s, "end_s": self.end_s,
                "n_valid": self.n_valid, "cell_s": self.cell_s,
            }
        )  # fmt: skip


class FeatureCorpus:
    """Features of frames by video, as an index takes them. Raises FeaturesError for files that cannot be read or do not
    fit, SpecError for options that do not go together.

    A video's uri is its file of features, `#` and the id in it: there is no file to play. Its fingerprint is that of
    the file, and its duration where that was given: a file that changes is imported again, with all that it holds.
    """

    def __init__(self, path: str, options: ImportOptions) -> None:
        _check(options)
        self.options = options
        self.shaping = Shaping(None if options.columns is None else Columns.parse(options.columns), options.normalise)
        self._features: Features = open_features(path, options.format, key=options.key)
        self._durations: Mapping[str, float] | None = None
        if options.durations is not None:
            self._durations = read_durations(options.durations)
            self._check_durations(options)

    @property
    def path(self) -> str:
        return str(self._features.path)

    @cached_property
    def n_bytes(self) -> int:
        """Of all its files together."""
        return sum({entry.path: entry.size_bytes for entry in self._features.entries.values()}.values())

    @property
    def version(self) -> str:
        """A hash of what its files are."""
        return self._features.version

    @cached_property
    def names(self) -> Mapping[str, str]:
        """{video_id: the id in the file}."""
        prefix = self.options.strip_prefix
        found: dict[str, str] = {}
        for name in self._features.entries:
            video_id = shown(name.removeprefix(prefix))
            if not video_id:
                raise FeaturesError(f"{self.path}: --strip-prefix {prefix} leaves nothing of the id {name!r}")
            if video_id in found:
                raise FeaturesError(f"{self.path}: {found[video_id]!r} and {name!r} are one id without {prefix!r}")
            found[video_id] = name
        if prefix and not any(name.startswith(prefix) for name in found.values()):
            some = ", ".join(sorted(found)[:_NAMED])
            raise FeaturesError(f"{self.path}: no id begins with --strip-prefix {prefix}; ids are {some} and so on")
        return found

    @cached_property
    def corpus(self) -> Corpus:
        """Its videos, in order of their ids."""
        root = stored_path(self.path)
        return Corpus(root, root, tuple(self._video(video_id) for video_id in sorted(self.names)))

    @cached_property
    def dim(self) -> int:
        """D, from the first videos that can be used. Raises FeaturesError when none of them can, or they do not agree:
        then nothing has been written yet."""
        first = sorted(self.names)[:_NAMED]
        dims: dict[str, int] = {}
        errors: list[FeaturesError] = []
        for video_id in first:
            try:
                dims[video_id] = len(self._vectors(video_id)[0])
            except FeaturesError as error:
                errors.append(error)
        if not dims:
            raise FeaturesError("; ".join(map(str, errors)))
        if len(set(dims.values())) > 1:
            told = ", ".join(f"{video_id} {dim}" for video_id, dim in dims.items())
            raise FeaturesError(f"{self.path}: vectors of different dimensions: {told}")
        return next(iter(dims.values()))

    def __str__(self) -> str:
        """How features become rows, as the encoder spec says it."""
        pooled = f", {self.options.pool} of {self.options.grid} x {self.options.grid}" if self.options.pool else ""
        return f"{self.shaping}{pooled}"

    def fingerprint(self, video_id: str) -> str | None:
        """What `corpus` has for a video; None where there is no such."""
        return self._video(video_id).fingerprint if video_id in self.names else None

    def load(self, video_id: str) -> VideoFeatures:
        """The rows of one video. Raises FeaturesError that names the file and what is wrong."""
        vectors = self._vectors(video_id, self.dim)
        n_frames = len(vectors)
        duration_s = self._duration_s(video_id)
        step = 1.0 / self.options.fps if self.options.fps else duration_s / n_frames
        size = self.options.grid**2
        first = np.arange(0, n_frames, size)
        n_valid = np.minimum(size, n_frames - first)
        if size > 1:
            sums = np.add.reduceat(vectors, first, axis=0)
            vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        starts, ends = (at.astype(np.float64) * step for at in (first, first + n_valid))
        times = pa.ListArray.from_arrays(pa.array([*first, n_frames], pa.int32()), np.arange(n_frames) * step)
        length_s = duration_s or n_frames * step
        return VideoFeatures(vectors, starts, ends, n_valid.astype(np.int32), times, n_frames, length_s)

    def _vectors(self, video_id: str, dim: int | None = None) -> NDArray[np.float32]:
        name = self.names[video_id]
        what = f"{self._features.entries[name].path}: {name}"
        return self.shaping.rows(self._features.read(name), what, dim)

    def _duration_s(self, video_id: str) -> float:
        """0 where that was not given."""
        return 0.0 if self._durations is None else self._durations[self._named_in_durations(video_id)]

    def _named_in_durations(self, video_id: str) -> str:
        assert self._durations is not None
        return video_id if video_id in self._durations else self.names[video_id]

    def _check_durations(self, options: ImportOptions) -> None:
        assert self._durations is not None
        lacking = [v for v in sorted(self.names) if self._named_in_durations(v) not in self._durations]
        if lacking:
            raise FeaturesError(
                f"{options.durations}: no duration of {len(lacking):,} of the {len(self.names):,} videos of "
                f"{self.path}: {_some(lacking)}; its ids are {_some(list(self._durations))}"
            )

    def _video(self, video_id: str) -> VideoFile:
        entry = self._features.entries[self.names[video_id]]
        duration_s = self._duration_s(video_id)
        size = f"{entry.size_bytes}:{duration_s!r}" if duration_s else str(entry.size_bytes)
        uri = f"{stored_path(str(entry.path))}#{shown(entry.name)}"
        return VideoFile(video_id, uri, entry.size_bytes, f"{size}-{entry.mtime_ns}")


def _check(options: ImportOptions) -> None:
    if (options.fps is None) == (options.durations is None):
        raise SpecError(
            "files of features do not say when their frames were: give either --fps or --durations, from where the "
            "features are published"
        )
    if options.fps is not None:
        check_fps(options.fps)
    check_grid(options.grid)
    if options.pool is not None and options.pool not in POOLS:
        raise SpecError(f"pool {options.pool!r}: choose one of {', '.join(POOLS)}")
    if (options.grid > 1) != (options.pool is not None):
        raise SpecError("--grid above 1 and --pool go together: what becomes of the features of a grid's frames")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" and so on" if len(names) > _NAMED else "")
