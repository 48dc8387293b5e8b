"""Stage 2: decodes and tiles segments. Imports no torch, so that its workers start fast."""

import io
import json
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
from qasir.encoding.rows import REPORT, TILE_SCHEMA, Report
from qasir.errors import VideoError
from qasir.index.schemas import ENCODED, FAILED
from qasir.index.spec import EncoderSpec
from qasir.video.container import Video
from qasir.video.corpus import MISSING, VideoFile
from qasir.video.tile import SuperImage, Tiler, Tiling, Wanted, super_images

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


def decode_segments(
    segments: pa.Table,
    specs: Sequence[EncoderSpec],
    *,
    allow_partial: bool = False,
    time_limit_s: float | None = None,
) -> Iterator[pa.Table]:
    """Decode and tile each segment for the indexes that need it; tables stay under a few megabytes.

    One bad file is one failed report an index. time_limit_s: kills this process when a decoder makes no progress for so long.
    """
    with Alarm(time_limit_s) as alarm:
        for row in segments.to_pylist():
            for table in _decode_segment(row, specs, allow_partial, alarm):
                alarm.off()  # whoever takes the table may take their time
                yield table
                alarm.set()


def _decode_segment(
    row: dict[str, Any], specs: Sequence[EncoderSpec], allow_partial: bool, alarm: Alarm
) -> Iterator[pa.Table]:
    file = VideoFile(row["video_id"], row["uri"], row["size_bytes"], row["fingerprint"])
    needs = [_Need(need["index"], specs[need["index"]], frozenset(need["committed"])) for need in row["needs"]]
    groups = _groups(needs)
    where = {"segment": row["segment"], "n_segments": row["n_segments"]}
    outcome: dict[str, Any]
    rows: list[dict[str, Any]] = []
    n_bytes = 0
    seconds, since = 0.0, time.perf_counter()
    try:
        if file.fingerprint == MISSING:
            raise VideoError("io", "no such file")
        alarm.set()
        with Video(file.uri, alive=alarm.set) as video:
            for group in groups:
                group.tiler = Tiler(_wanted(group, row["start_s"], row["stop_s"]), video.pixel_aspect)
            tilers = [group.tiler for group in groups if group.tiler is not None]
            for number, image in super_images(video, tilers, allow_partial=allow_partial):
                rows.append({**_key(file), **_tile(image, groups[number].needs)})
                n_bytes += image.pixels.nbytes
                if n_bytes >= _TABLE_BYTES:
                    seconds += time.perf_counter() - since
                    yield pa.Table.from_pylist(rows, schema=TILE_SCHEMA)
                    rows, n_bytes, since = [], 0, time.perf_counter()
            outcome = {
                "status": ENCODED, "duration_s": video.duration_s, "width": video.width, "height": video.height,
                "fps": video.frame_rate, "codec": video.codec, "decode_errors": video.decode_errors,
            }  # fmt: skip
    except VideoError as error:
        log.warning("%s: %s: %s", file.uri, error.kind, error)
        outcome = {"status": FAILED, "error_kind": error.kind, "error": str(error)}
    except Exception as error:  # whatever a damaged file makes a decoder raise, it is that file's failure alone
        log.exception("%s: unexpected error", file.uri)
        outcome = {"status": FAILED, "error_kind": "decode", "error": f"{type(error).__name__}: {error}"}
    seconds += time.perf_counter() - since
    for group in groups:
        for need in group.needs:
            if group.tiler is not None:
                outcome |= {"n_sampled": group.tiler.n_sampled, "n_super_images": group.tiler.n_super_images}
            report = Report(**asdict(file), **where, **outcome, index=need.index, n_new=need.n_new, seconds=seconds)
            seconds = 0.0  # one segment's time is told once
            rows.append(
                {**_key(file), "indexes": 1 << need.index, "position": REPORT, "report": json.dumps(asdict(report))}
            )
    yield pa.Table.from_pylist(rows, schema=TILE_SCHEMA)


def _groups(needs: list[_Need]) -> list[_Group]:
    groups: dict[Tiling, _Group] = {}
    for need in needs:
        tiling = Tiling(need.spec.rate, need.spec.grid, need.spec.image_size, need.spec.fit)
        groups.setdefault(tiling, _Group(tiling)).needs.append(need)
    return list(groups.values())


def _wanted(group: _Group, start_s: int, stop_s: int | None) -> Wanted:
    """A super image belongs to the segment of its first sample."""
    return Wanted(
        group.tiling,
        start=group.tiling.first_position(Fraction(start_s)),
        stop=None if stop_s is None else group.tiling.first_position(Fraction(stop_s)),
        skip=frozenset.intersection(*(need.committed for need in group.needs)),
    )


def _key(file: VideoFile) -> dict[str, str]:
    return {"video_id": file.video_id, "fingerprint": file.fingerprint}


def _tile(image: SuperImage, needs: list[_Need]) -> dict[str, Any]:
    wanting = [need for need in needs if image.position not in need.committed]
    for need in wanting:
        need.n_new += 1
    return {
        "indexes": sum(1 << need.index for need in wanting),
        "position": image.position,
        "start_s": image.start_s,
        "end_s": image.end_s,
        "n_valid": image.n_valid,
        "side": len(image.pixels),
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
