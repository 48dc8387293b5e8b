"""The three stages between a plan and a committed index, as plain functions on Arrow tables.

    decode_videos   plan rows -> tiles: one row a super image (its pixels), then one report row a video
    Encoder         tiles -> encoded rows: pixels become embeddings; report rows pass through
    write_rows      encoded rows -> one receipt: uncommitted fragments, positions and sums a video, reports

A report row (position -1) carries what `videos` needs to know of one video. Because rows of a video may arrive in any
order and in several batches, a video is complete when as many of its super images were written as its report says.
"""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray
from PIL import Image

from qasir.corpus import MISSING, VideoFile
from qasir.decode import Video
from qasir.errors import VideoError
from qasir.index import Index, embedding_column, matrix
from qasir.spec import EncoderSpec
from qasir.tables import ENCODED, FAILED
from qasir.tile import SuperImage, Tiling, n_super_images, super_images
from qasir.vlm import Vlm, VlmSource

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 224
_THUMBNAIL_QUALITY = 80
_TILE_BYTES = 4 << 20
_REPORT = -1

PLAN_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("size_bytes", pa.int64()),
        ("fingerprint", pa.string()),
        ("committed", pa.list_(pa.int32())),
    ]
)
TILE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("fingerprint", pa.string()),
        ("position", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("n_valid", pa.int32()),
        ("pixels", pa.large_binary()),
        ("thumbnail", pa.binary()),
        ("report", pa.string()),
    ]
)
RECEIPT_SCHEMA = pa.schema([("fragments", pa.string()), ("positions", pa.string()), ("sums", pa.binary()), ("reports", pa.string())])


@dataclass(frozen=True)
class Report:
    """What became of one video: a row of `videos` less its embedding."""

    video_id: str
    uri: str
    size_bytes: int
    fingerprint: str
    status: str
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    codec: str | None = None
    n_sampled: int = 0
    n_super_images: int = 0
    decode_errors: int = 0
    error_kind: str | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        return self.status == FAILED


def plan_table(videos: list[VideoFile], committed: dict[str, list[int]]) -> pa.Table:
    """Videos to encode, each with the positions already committed under its present fingerprint."""
    rows = [{**asdict(video), "committed": committed.get(video.video_id, [])} for video in videos]
    return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)


def decode_videos(plan: pa.Table, spec: EncoderSpec, *, allow_partial: bool = False) -> Iterator[pa.Table]:
    """Decode and tile each planned video; tables stay under a few megabytes. One bad file is one failed report."""
    for row in plan.to_pylist():
        skip = frozenset(row.pop("committed"))
        yield from _decode_video(VideoFile(**row), spec, skip, allow_partial)


def _decode_video(file: VideoFile, spec: EncoderSpec, skip: frozenset[int], allow_partial: bool) -> Iterator[pa.Table]:
    tiling = Tiling(spec.rate, spec.grid, spec.image_size, spec.fit)
    rows: list[dict[str, Any]] = []
    n_sampled = 0
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
            n_sampled = video.n_sampled
            report = Report(
                **asdict(file), status=ENCODED, duration_s=video.duration_s, width=video.width, height=video.height,
                fps=video.frame_rate, codec=video.codec, n_sampled=n_sampled,
                n_super_images=n_super_images(n_sampled, spec.grid), decode_errors=video.decode_errors,
            )  # fmt: skip
    except VideoError as error:
        log.warning("%s: %s: %s", file.uri, error.kind, error)
        report = Report(**asdict(file), status=FAILED, error_kind=error.kind, error=str(error))
    rows.append({**identity, "position": _REPORT, "report": json.dumps(asdict(report))})
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


class Encoder:
    """Encodes tiles with one VLM. Built once per worker; `threads` bounds what torch takes of a shared CPU."""

    def __init__(self, source: VlmSource, spec: EncoderSpec, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.spec = spec
        self.vlm = Vlm(source, image_size=spec.image_size, precision=spec.precision)

    def __call__(self, tiles: pa.Table) -> pa.Table:
        spec = self.spec
        is_image = np.asarray(tiles["position"]) != _REPORT
        images = tiles.filter(pa.array(is_image))
        n, side = len(images), spec.image_size
        embeddings = np.zeros((n, spec.embedding_dim), dtype=np.float32)
        cell_embeddings = np.zeros((n, spec.grid**2, spec.embedding_dim), dtype=np.float32) if spec.cells else None
        if n:
            data = b"".join(images["pixels"].to_pylist())
            pixels = np.frombuffer(data, dtype=np.uint8).reshape(n, side, side, 3)
            embeddings, cell_embeddings = self.vlm.encode_images(pixels, grid=spec.grid if spec.cells else None)
        columns = {name: images[name] for name in ("video_id", "fingerprint", "position", "start_s", "end_s", "n_valid")}
        columns["embedding"] = embedding_column(embeddings)
        if cell_embeddings is not None:
            columns["cell_embeddings"] = embedding_column(cell_embeddings)
        if spec.thumbnails:
            columns["thumbnail"] = images["thumbnail"]
        encoded = pa.table(columns).append_column("report", pa.nulls(n, pa.string()))
        reports = tiles.filter(pa.array(~is_image)).select(["video_id", "fingerprint", "position", "report"])
        return pa.concat_tables([encoded, reports], promote_options="default")


def write_rows(rows: pa.Table, index: Index) -> pa.Table:
    """Write encoded rows as uncommitted fragments; the one-row receipt says what is in them (`Receipt.parse`)."""
    is_image = np.asarray(rows["position"]) != _REPORT
    images = rows.filter(pa.array(is_image))
    reports = rows.filter(pa.array(~is_image))["report"].to_pylist()
    fragments = index.write_super_images(images) if len(images) else []
    positions: dict[str, list[int]] = {}
    sums: list[NDArray[np.float64]] = []
    ids, at = np.asarray(images["video_id"]), np.asarray(images["position"])
    vectors = matrix(images["embedding"], index.spec.embedding_dim).astype(np.float64)
    for video_id in dict.fromkeys(ids.tolist()):
        mine = ids == video_id
        positions[video_id] = at[mine].tolist()
        sums.append(vectors[mine].sum(axis=0))
    receipt = {
        "fragments": json.dumps([fragment.to_json() for fragment in fragments]),
        "positions": json.dumps(positions),
        "sums": np.stack(sums).tobytes() if sums else b"",
        "reports": json.dumps([json.loads(report) for report in reports]),
    }
    return pa.Table.from_pylist([receipt], schema=RECEIPT_SCHEMA)


@dataclass(frozen=True)
class Receipt:
    """What one written batch holds: fragments to commit, {video_id: (positions, sum of embeddings)}, reports."""

    fragments: list[FragmentMetadata]
    written: dict[str, tuple[list[int], NDArray[np.float64]]]
    reports: list[Report] = field(default_factory=list)

    @classmethod
    def parse(cls, row: dict[str, Any]) -> "Receipt":
        positions: dict[str, list[int]] = json.loads(row["positions"])
        sums = np.frombuffer(row["sums"], dtype=np.float64)
        if positions:
            sums = sums.reshape(len(positions), -1)
        fragments = [FragmentMetadata.from_json(_text(fragment)) for fragment in json.loads(row["fragments"])]
        return cls(
            fragments=fragments,
            written={video: (at, total) for (video, at), total in zip(positions.items(), sums, strict=True)},
            reports=[Report(**report) for report in json.loads(row["reports"])],
        )


def _text(fragment: Any) -> str:
    return fragment if isinstance(fragment, str) else json.dumps(fragment)
