"""Looks at files of a corpus, and times how decoding goes there, by the stages that a run cuts and decodes with. To be
called in processes that may die of a file. Imports neither torch nor Lance."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import pyarrow as pa

from qasir.encoding.alarm import Alarm
from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import Decoded, decode_segments
from qasir.encoding.memory import MemoryLimit
from qasir.encoding.options import EncodeOptions
from qasir.encoding.rows import PLAN_SCHEMA, SEGMENT_SCHEMA, whole_video
from qasir.encoding.stopwatch import Stopwatch
from qasir.errors import VideoError
from qasir.index.schemas import FAILED
from qasir.index.spec import EncoderSpec
from qasir.video.container import Video
from qasir.video.open_video import open_video

HEADER_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("duration_s", pa.float64()),  # as its header says, else its packets; null where neither do
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("codec", pa.string()),
        ("error_kind", pa.string()),  # null where it can be opened
    ]
)
TIMING_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("choice", pa.int32()),
        ("cpu_s", pa.float64()),
        ("wait_s", pa.float64()),
        ("beside_s", pa.float64()),
        ("images", pa.list_(pa.float64())),
        ("thumbnail_bytes", pa.int64()),
        ("thumbnails", pa.int32()),
        ("error_kind", pa.string()),
    ]
)
"""`Timing`, which says what its columns mean."""

_PIXELS_A_SECOND = 600e6
"""About what a core decodes."""
_SHORTEST_S, _LONGEST_S = 12, 60
_WORK_S = 1.0
"""A stretch takes about so much of a core, within these bounds in seconds of video."""
_WHOLE = 2.0
"""A video not longer than so many stretches is decoded whole."""

_DEMUXING_S = 2.0
"""How long packets are read of a file whose header does not say how long it is."""

_is_warm = False


@dataclass(frozen=True)
class Timing:
    """What a whole file takes by one choice of settings, as far as a stretch of it tells.

    cpu_s, wait_s: what cutting, decoding and tiling take (`qasir.encoding.stopwatch.Taken`). beside_s: of cpu_s, what a
    segment takes however long it is; None where that was not told apart. images: super images of each index.
    thumbnails of so many bytes in all were made of the stretch. error_kind: why it failed, None if it did not.
    """

    video_id: str
    choice: int
    cpu_s: float
    wait_s: float
    images: tuple[float, ...]
    beside_s: float | None = None
    thumbnail_bytes: int = 0
    thumbnails: int = 0
    error_kind: str | None = None


@dataclass(frozen=True)
class Subject:
    """A file to time: its plan row, and what its header said. beside_s: what a segment of it takes however long it is,
    where another timing told."""

    row: dict[str, Any]
    duration_s: float
    pixels_a_second: float
    beside_s: float | None = None

    def stretch_s(self, least_s: float) -> float:
        """How long a stretch of it to decode: worth a second of a core."""
        wanted = _WORK_S * _PIXELS_A_SECOND / max(1.0, self.pixels_a_second)
        return max(least_s, min(_LONGEST_S, max(_SHORTEST_S, wanted)))


def read_headers(plan: pa.Table, options: EncodeOptions) -> Iterator[pa.Table]:
    """PLAN_SCHEMA -> HEADER_SCHEMA, a table a row."""
    with Alarm(options.decode_timeout_s) as alarm, MemoryLimit(options.decode_memory) as memory:
        for row in plan.to_pylist():
            alarm.set()
            memory.renew()
            yield pa.Table.from_pylist([{"video_id": row["video_id"], **_header(row["uri"])}], schema=HEADER_SCHEMA)


def _header(uri: str) -> dict[str, Any]:
    try:
        with open_video(uri) as video:
            duration_s = video.claimed_duration_s
            if not duration_s and isinstance(video, Video):
                duration_s = video.demuxed_duration_s(_DEMUXING_S)
            return {
                "duration_s": duration_s, "width": video.width, "height": video.height,
                "fps": video.frame_rate, "codec": video.codec,
            }  # fmt: skip
    except VideoError as error:
        return {"error_kind": error.kind}
    except Exception:  # a damaged file may raise anything, and fails as one that cannot be decoded
        return {"error_kind": "decode"}


def time_decoding(
    subject: Subject, choices: Mapping[int, Sequence[EncoderSpec]], options: EncodeOptions
) -> Iterator[pa.Table]:
    """TIMING_SCHEMA, one table a choice. choices: by their number the specs of a run's indexes; the subject's `needs`
    are the same for all."""
    for number, specs in choices.items():
        with _quiet():
            _warm_up(subject, specs, options)
            timing = _timed(subject, number, specs, options)
        yield pa.Table.from_pylist([vars(timing)], schema=TIMING_SCHEMA)


@contextmanager
def _quiet() -> Iterator[None]:
    """What fails is told by the timings."""
    logger = logging.getLogger("qasir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _warm_up(subject: Subject, specs: Sequence[EncoderSpec], options: EncodeOptions) -> None:
    """What a process does once, to load a decoder say, is no part of what a file takes."""
    global _is_warm
    if not _is_warm:
        (segment,) = whole_video(subject.row).to_pylist()
        _Look.at([{**segment, "stop_s": _SHORTEST_S}], specs, options)
        _is_warm = True


def _timed(subject: Subject, choice: int, specs: Sequence[EncoderSpec], options: EncodeOptions) -> Timing:
    wanted = [need["index"] for need in subject.row["needs"]]
    spans = [_span_s(specs[index]) for index in wanted]
    watch = Stopwatch()
    plan = pa.Table.from_pylist([subject.row], schema=PLAN_SCHEMA)
    segments = cut_videos(plan, specs, **options.cut_limits).to_pylist()
    cutting = watch.taken()
    is_told = subject.beside_s is not None and all(specs[index].sampling == "uniform" for index in wanted)
    stretch_s = subject.stretch_s(max(spans) if is_told else 2 * max(spans))
    if subject.duration_s <= _WHOLE * stretch_s:
        timing = whole(subject, choice, _Look.at(segments, specs, options), n_indexes=len(specs))
    else:
        middle = segments[len(segments) // 2]
        more = _Look.at([_stretch(middle, subject, stretch_s)], specs, options)
        one = None if is_told else _Look.at([_stretch(middle, subject, max(spans))], specs, options)
        timing = extrapolated(subject, choice, one, more, n_segments=len(segments), specs=specs)
    return replace(timing, cpu_s=timing.cpu_s + cutting.cpu_s, wait_s=timing.wait_s + cutting.wait_s)


def _span_s(spec: EncoderSpec) -> float:
    """Seconds of video on a super image, of frames evenly spaced."""
    return spec.frames_per_super_image / spec.fps


def _stretch(segment: dict[str, Any], subject: Subject, length_s: float) -> dict[str, Any]:
    """So many seconds of a segment, from its start, or from the middle of a video that is one; no further than the
    segment goes."""
    start = segment["start_s"]
    if segment["n_segments"] == 1:
        start = max(0, int((subject.duration_s - length_s) / 2))
    stop, ends = start + max(1, round(length_s)), segment["stop_s"]
    if ends is None and stop >= subject.duration_s:
        return {**segment, "start_s": start}
    return {**segment, "start_s": start, "stop_s": stop if ends is None else min(stop, ends)}


@dataclass
class _Look:
    """What decoding some segments took, and gave. Of each index: how many samples were taken, how many seconds of video
    their super images cover, and how many those are."""

    cpu_s: float = 0.0
    wait_s: float = 0.0
    samples: Counter[int] = field(default_factory=Counter)
    covered_s: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    duration_s: float | None = None
    thumbnail_bytes: int = 0
    thumbnails: int = 0
    error_kind: str | None = None

    @classmethod
    def at(cls, segments: Sequence[dict[str, Any]], specs: Sequence[EncoderSpec], options: EncodeOptions) -> "_Look":
        look = cls()
        rows = pa.Table.from_pylist(list(segments), schema=SEGMENT_SCHEMA)
        for part in decode_segments(rows, specs, **options.decode_limits):
            look._add(part)
        return look

    @property
    def n_samples(self) -> int:
        return sum(self.samples.values())

    def _add(self, part: Decoded) -> None:
        for tile in part.tiles.select(["indexes", "start_s", "end_s", "thumbnail"]).to_pylist():
            if tile["thumbnail"] is not None:
                self.thumbnails += 1
                self.thumbnail_bytes += len(tile["thumbnail"])
            for index in tile["indexes"]:
                self.covered_s[index] += tile["end_s"] - tile["start_s"]
        for report in part.reports.to_pylist():
            self.cpu_s += report["cpu_s"]
            self.wait_s += report["wait_s"]
            self.images[report["index"]] += report["n_super_images"]
            self.samples[report["index"]] += report["n_sampled"]
            self.duration_s = report["duration_s"] or self.duration_s
            if report["status"] == FAILED:
                self.error_kind = report["error_kind"]


def whole(subject: Subject, choice: int, look: _Look, *, n_indexes: int) -> Timing:
    """Of a file that was decoded from its start to its end."""
    failed = look.error_kind is not None
    return Timing(
        subject.row["video_id"], choice, look.cpu_s, look.wait_s,
        images=tuple(0.0 if failed else float(look.images[index]) for index in range(n_indexes)),
        thumbnail_bytes=look.thumbnail_bytes, thumbnails=look.thumbnails, error_kind=look.error_kind,
    )  # fmt: skip


def extrapolated(
    subject: Subject, choice: int, one: _Look | None, more: _Look, *, n_segments: int, specs: Sequence[EncoderSpec]
) -> Timing:
    """Of a file of which two stretches from the same place were decoded, a short and a long one.

    What a segment takes however long it is, to open it and to come from a keyframe to its first sample, is what the
    short one took beyond its share of what the long one took more. The subject knows it where there is no short one.
    """
    kind = more.error_kind or (one.error_kind if one is not None else None)
    if kind is not None or not more.n_samples:
        took = (more.cpu_s, more.wait_s) if one is None else (one.cpu_s + more.cpu_s, one.wait_s + more.wait_s)
        return Timing(subject.row["video_id"], choice, *took, images=(0.0,) * len(specs), error_kind=kind)
    beside_s = subject.beside_s or 0.0
    if one is not None:
        beside_s = max(0.0, one.cpu_s - one.n_samples * _each_s(one, more))
    beside_s = min(beside_s, more.cpu_s)
    samples = {index: n / more.covered_s[index] * subject.duration_s for index, n in more.samples.items() if n}
    n_samples = sum(samples.values())
    return Timing(
        subject.row["video_id"], choice,
        cpu_s=n_segments * beside_s + (more.cpu_s - beside_s) / more.n_samples * n_samples,
        wait_s=more.wait_s / more.n_samples * n_samples,
        beside_s=beside_s,
        images=tuple(
            float(ceil(samples.get(index, 0.0) / spec.frames_per_super_image)) for index, spec in enumerate(specs)
        ),
        thumbnail_bytes=more.thumbnail_bytes, thumbnails=more.thumbnails,
    )  # fmt: skip


def _each_s(one: _Look, more: _Look) -> float:
    """What a sample took, by what the long stretch took more than the short one."""
    if more.n_samples <= one.n_samples or more.cpu_s <= one.cpu_s:
        return more.cpu_s / more.n_samples
    return (more.cpu_s - one.cpu_s) / (more.n_samples - one.n_samples)
