"""Stage 1: decodes and tiles planned videos. Imports no torch, so that its workers start fast."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from qasir.corpus import MISSING, VideoFile
from qasir.decode import Video
from qasir.errors import VideoError
from qasir.spec import EncoderSpec
from qasir.stages.rows import REPORT, TILE_SCHEMA, Report
from qasir.tables import ENCODED, FAILED
from qasir.tile import SuperImage, Tiling, n_super_images, super_images

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 224
_THUMBNAIL_QUALITY = 80
_TILE_BYTES = 4 << 20


def decode_videos(plan: pa.Table, spec: EncoderSpec, *, allow_partial: bool = False) -> Iterator[pa.Table]:
    """Decode and tile each planned video; tables stay under a few megabytes. One bad file is one failed report."""
    for row in plan.to_pylist():
        skip = frozenset(row.pop("committed"))
        yield from _decode_video(VideoFile(**row), spec, skip, allow_partial)


def _decode_video(file: VideoFile, spec: EncoderSpec, skip: frozenset[int], allow_partial: bool) -> Iterator[pa.Table]:
    tiling = Tiling(spec.rate, spec.grid, spec.image_size, spec.fit)
    rows: list[dict[str, Any]] = []
    per_table = max(1, _TILE_BYTES // (3 * spec.image_size**2))
    identity = {"video_id": file.video_id, "fingerprint": file.fingerprint}
    try:
        if file.fingerprint == MISSING:
            raise VideoError("io", "no such file")
        with Video(file.uri) as video:
            for image in super_images(video, tiling, skip=skip, allow_partial=allow_partial):
                rows.append({**identity, **_tile(image, thumbnails=spec.thumbnails)})
                if len(rows) >= per_table:
                    yield pa.Table.from_pylist(rows, schema=TILE_SCHEMA)
                    rows = []
            report = Report(
                **asdict(file), status=ENCODED, duration_s=video.duration_s, width=video.width, height=video.height,
                fps=video.frame_rate, codec=video.codec, n_sampled=video.n_sampled,
                n_super_images=n_super_images(video.n_sampled, spec.grid), decode_errors=video.decode_errors,
            )  # fmt: skip
    except VideoError as error:
        log.warning("%s: %s: %s", file.uri, error.kind, error)
        report = Report(**asdict(file), status=FAILED, error_kind=error.kind, error=str(error))
    except Exception as error:  # whatever a damaged file makes a decoder raise, it is that file's failure alone
        log.exception("%s: unexpected error", file.uri)
        message = f"{type(error).__name__}: {error}"
        report = Report(**asdict(file), status=FAILED, error_kind="decode", error=message)
    rows.append({**identity, "position": REPORT, "report": json.dumps(asdict(report))})
    yield pa.Table.from_pylist(rows, schema=TILE_SCHEMA)


def _tile(image: SuperImage, *, thumbnails: bool) -> dict[str, Any]:
    return {
        "position": image.position,
        "start_s": image.start_s,
        "end_s": image.end_s,
        "n_valid": image.n_valid,
        "pixels": image.pixels.tobytes(),
        "thumbnail": thumbnail(image.pixels) if thumbnails else None,
    }


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """A small JPEG of a super image, at most THUMBNAIL_SIDE pixels a side."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()
