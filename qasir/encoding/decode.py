"""Stage 2: decodes and tiles segments. Imports neither torch nor Lance, so that its workers start fast."""

import io
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from qasir.encoding.alarm import Alarm
from qasir.encoding.memory import MemoryLimit
from qasir.encoding.reports import CHANGED, Report, report_rows
from qasir.encoding.rows import REPORT_SCHEMA, TILE_SCHEMA
from qasir.encoding.schedules import scheduled, tiling_of
from qasir.encoding.stopwatch import Stopwatch, Taken
from qasir.errors import VideoError
from qasir.index.schemas import ENCODED, FAILED
from qasir.index.spec import EncoderSpec
from qasir.video.container import End
from qasir.video.corpus import MISSING, VideoFile, current_fingerprint
from qasir.video.hardware import CPU, THIS_PROCESS, Fallback, Gpus, check_worth
from qasir.video.limits import out_of_memory
from qasir.video.open_video import SampledVideo, open_video
from qasir.video.schedule import Schedule
from qasir.video.tile import SuperImage, Tiler, Tiling, Wanted, super_images
from qasir.video.video_file import is_same_version

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 224
_THUMBNAIL_QUALITY = 80
_TABLE_BYTES = 2 << 20


@dataclass
class _Need:
    """What one index wants of a segment: all but the positions it has; `n_new` counts those sent on."""

    index: int
    spec: EncoderSpec
    committed: frozenset[int]
    n_new: int = 0


@dataclass
class _Group:
    """Needs that share a tiling, and so are decoded and drawn once."""

    tiling: Tiling
    needs: list[_Need] = field(default_factory=list)
    tiler: Tiler | None = None


@dataclass(frozen=True)
class Decoded:
    """A few megabytes of tiles (TILE_SCHEMA), and the reports (REPORT_SCHEMA) of the segment that ends with them, if
    one does."""

    tiles: pa.Table
    reports: pa.Table


def decode_segments(
    segments: pa.Table,
    specs: Sequence[EncoderSpec],
    *,
    allow_partial: bool = False,
    decoder: str = CPU,
    time_limit_s: float | None = None,
    memory_limit: int | None = None,
    gpus: Gpus = THIS_PROCESS,
) -> Iterator[Decoded]:
    """Decode and tile each segment for the indexes that need it.

    One bad file is one failed report an index, and so is one that changes before its segment is decoded to the end.
    time_limit_s: kills this process when a decoder makes no progress for so long. memory_limit: bytes that decoding a
    segment may take; a file that needs more is "too_large". decoder: as `EncodeOptions` has it; gpus: those of this
    machine.
    """
    how = _How(allow_partial, decoder, gpus)
    with Alarm(time_limit_s) as alarm, MemoryLimit(memory_limit) as memory:
        for row in segments.to_pylist():
            memory.renew()
            for part in _decode_segment(row, specs, how, alarm, memory):
                alarm.off()  # whoever takes it may take their time
                memory.off()  # and their memory
                yield part
                memory.set()
                alarm.set()


@dataclass(frozen=True)
class _How:
    """How segments are decoded."""

    allow_partial: bool
    decoder: str
    gpus: Gpus

    def choose(self, video: SampledVideo, memory: MemoryLimit) -> None:
        """Have a video decoded on a GPU, where it may be."""
        if self.decoder == CPU:
            return
        try:
            check_worth(self.decoder, video.codec, video.width, video.height)
            with memory.lifted():  # the context on the GPU is this process's own, and maps gigabytes
                video.gpu = self.gpus.get()
        except Fallback as reason:
            video.fallback = reason.reason


def _decode_segment(
    row: dict[str, Any], specs: Sequence[EncoderSpec], how: _How, alarm: Alarm, memory: MemoryLimit
) -> Iterator[Decoded]:
    file = VideoFile(row["video_id"], row["uri"], row["size_bytes"], row["fingerprint"], row["problem"])
    needs = [_Need(need["index"], specs[need["index"]], frozenset(need["committed"])) for need in row["needs"]]
    groups = _groups(needs)
    tiles: list[dict[str, Any]] = []
    n_bytes = 0
    clock = Stopwatch()
    outcome: dict[str, Any]
    try:
        if file.problem is not None:
            raise VideoError("io", file.problem)
        alarm.set()
        _check_unchanged(file)
        with open_video(file.uri, alive=alarm.set) as video:
            how.choose(video, memory)
            for group in groups:
                schedule = scheduled(group.tiling, row["schedules"], video, allow_partial=how.allow_partial)
                wanted = _wanted(group, schedule, row["start_s"], row["stop_s"])
                group.tiler = Tiler(wanted, video.pixel_aspect, schedule)
            images = super_images(
                video, [g.tiler for g in groups if g.tiler is not None], allow_partial=how.allow_partial
            )
            while True:
                try:
                    number, image = next(images)
                except StopIteration as stop:
                    outcome = _encoded(video, stop.value)
                    break
                tiles.append(
                    {"video_id": file.video_id, "fingerprint": file.fingerprint, **_tile(image, groups[number].needs)}
                )
                n_bytes += image.pixels.nbytes
                if n_bytes >= _TABLE_BYTES:
                    with clock.stopped():
                        yield Decoded(pa.Table.from_pylist(tiles, schema=TILE_SCHEMA), REPORT_SCHEMA.empty_table())
                    tiles, n_bytes = [], 0
    except (VideoError, MemoryError) as error:
        outcome = _failed(file, error if isinstance(error, VideoError) else out_of_memory())
    except Exception as error:  # whatever a damaged file makes a decoder raise, it is that file's failure alone
        log.exception("%s: unexpected error", file.uri)
        outcome = _failed(file, VideoError("decode", f"{type(error).__name__}: {error}"))
    if file.problem is None:
        alarm.set()
        try:
            _check_unchanged(file)
        except VideoError as error:  # which explains any other failure
            outcome = _failed(file, error)
    outcome |= {"segment": row["segment"], "n_segments": row["n_segments"]}
    yield Decoded(
        pa.Table.from_pylist(tiles, schema=TILE_SCHEMA), report_rows(_reports(file, groups, outcome, clock.taken()))
    )


def _check_unchanged(file: VideoFile) -> None:
    """Raises VideoError when the file is not the one that was listed: what was read of it may be of any version."""
    try:
        found = current_fingerprint(file.uri)
    except Exception as error:  # an object store's client may raise anything
        raise VideoError("io", f"cannot be looked up again: {type(error).__name__}: {error}") from error
    if not is_same_version(file.uri, found, file.fingerprint):
        how = "it is gone" if found == MISSING else "size or modification time are not those that were listed"
        raise VideoError("io", f"{CHANGED}: {how}")


def _encoded(video: SampledVideo, end: End) -> dict[str, Any]:
    """The columns of a report about a segment that decoded; of one that nothing was wanted of, nothing was."""
    was_decoded = video.media_offset_s is not None
    return {
        "status": ENCODED, "duration_s": end.duration_s, "width": video.width, "height": video.height,
        "fps": video.frame_rate, "codec": video.codec, "decode_errors": end.decode_errors,
        "recorded_at": video.recorded_at, "media_offset_s": video.media_offset_s,
        "decoder": video.decoder if was_decoded else None, "fallback": video.fallback if was_decoded else None,
    }  # fmt: skip


def _failed(file: VideoFile, error: VideoError) -> dict[str, Any]:
    """Those of a segment of a video that cannot be used."""
    log.warning("%s: %s: %s", file.uri, error.kind, error)
    return {"status": FAILED, "error_kind": error.kind, "error": str(error)}


def _reports(file: VideoFile, groups: list[_Group], outcome: dict[str, Any], taken: Taken) -> Iterator[Report]:
    outcome = {**outcome, "ended": time.time()}
    for group in groups:
        counts: dict[str, Any] = {}
        if group.tiler is not None:
            counts = {"n_sampled": group.tiler.n_sampled, "n_super_images": group.tiler.n_super_images}
            if outcome["status"] == ENCODED:
                counts["duration_s"] = group.tiler.duration_s(outcome["duration_s"])
        for need in group.needs:
            yield Report(**file.columns, **{**outcome, **counts}, index=need.index, n_new=need.n_new, **asdict(taken))
            # What one segment took is told once.
            taken, outcome = Taken(0.0, 0.0, 0.0), {**outcome, "decoder": None, "fallback": None}


def _groups(needs: list[_Need]) -> list[_Group]:
    groups: dict[Tiling, _Group] = {}
    for need in needs:
        tiling = tiling_of(need.spec)
        groups.setdefault(tiling, _Group(tiling)).needs.append(need)
    return list(groups.values())


def _wanted(group: _Group, schedule: Schedule | None, start_s: int, stop_s: int | None) -> Wanted:
    """A super image belongs to the segment of its first sample."""

    def first_position(seconds: int) -> int:
        if schedule is None:
            return group.tiling.first_position(Fraction(seconds))
        return -(-schedule.index_at(Fraction(seconds)) // group.tiling.per_image)

    return Wanted(
        group.tiling,
        start=first_position(start_s),
        stop=None if stop_s is None else first_position(stop_s),
        skip=frozenset.intersection(*(need.committed for need in group.needs)),
    )


def _tile(image: SuperImage, needs: list[_Need]) -> dict[str, Any]:
    wanting = [need for need in needs if image.position not in need.committed]
    for need in wanting:
        need.n_new += 1
    return {
        "indexes": [need.index for need in wanting],
        "position": image.position,
        "start_s": image.start_s,
        "end_s": image.end_s,
        "n_valid": image.n_valid,
        "cell_s": image.cell_s,
        "pixels": image.pixels.tobytes(),
        "thumbnail": thumbnail(image.pixels) if any(need.spec.thumbnails for need in wanting) else None,
    }


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """A small JPEG of a super image, at most THUMBNAIL_SIDE pixels a side."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()
