"""From what the engine found to what the API answers."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from qasir.app import links
from qasir.app.answering import Found
from qasir.app.answers import Cutoff, Frame, Moment, MomentsAnswer, SearchAnswer, SearchHit, Unit
from qasir.app.catalogue import StoredVideo
from qasir.app.cutoff import Noise
from qasir.app.file_states import FileState, FileStates
from qasir.app.parameters import Asked
from qasir.app.question import Sort
from qasir.app.rows import date_of
from qasir.app.time_line import TimeLine
from qasir.app.units import Units
from qasir.retrieval.hits import Hit, MomentHit

_KINDS = {
    "video": "videos", "super-image": "pictures stored of these videos", "cell": "frames stored of these videos",
}  # fmt: skip
_OLDEST = datetime.min.replace(tzinfo=UTC)


def search_answer(found: Found, asked: Asked, files: FileStates, took_ms: Callable[[], float]) -> SearchAnswer:
    view, hits = found.view, found.hits
    videos = [] if view.opened is None else [view.opened.rows.of_hit(hit.video_id, hit.uri) for hit in hits]
    ordered = _sorted(list(zip(hits, videos, files.of(videos), strict=True)), asked.sort)
    cutoff = _cutoff(found.noise)
    shown = _Hits(found, asked.index, cutoff).of(ordered)
    return SearchAnswer(
        query=asked.text, exact=hits.exact, by=asked.by, index=asked.index, version=view.version,
        left_out=view.left_out, took_ms=took_ms(), method=None if found.method is None else found.method.sentence(),
        cutoff=cutoff, hits=shown, scoring=None if found.method is None else found.method.describe(),
    )  # fmt: skip


def moments_answer(line: TimeLine, asked: Asked, files: FileStates) -> MomentsAnswer:
    video, units = line.video, line.units
    (state,) = files.of([video])
    is_scored = line.attention is not None
    scores: Sequence[float | None] = units.cosine.tolist() if is_scored else [None] * len(units)
    weights: Sequence[float | None] = [None] * len(units) if line.attention is None else line.attention.tolist()
    spans = zip(units.start_s.tolist(), units.end_s.tolist(), strict=True)
    found = zip(line.moments.start_s.tolist(), line.moments.end_s.tolist(), line.moments.score.tolist(), strict=True)
    moments = [
        Moment(start, end, units.within(start, end).typical_s(line.granularity), score) for start, end, score in found
    ]
    at_s = moments[0].at_s if moments else video.duration_s / 2
    return MomentsAnswer(
        query=asked.text, video_id=video.video_id, uri=video.uri, title=title_of(video.video_id),
        duration_s=video.duration_s, fps=video.fps, media_offset_s=state.media_offset_s,
        media=links.media(video.video_id, asked.index) if state.is_there else None,
        thumbnail=links.frame(video.video_id, at_s, asked.index) if state.is_there else None,
        placeholder=links.thumbnail(video.video_id, at_s, asked.index) if line.view.has_thumbnails else None,
        problem=state.problem, score=line.score, granularity=line.granularity.replace("-", "_"),
        units=[Unit(*span, *rest) for span, *rest in zip(spans, scores, weights, strict=True)], moments=moments,
    )  # fmt: skip


def title_of(video_id: str) -> str:
    """The last part of an id."""
    return video_id.rstrip("/").rpartition("/")[2]


class _Hits:
    """Fills in the hits of an answer. Of what fits worst to best, frames are between the corpus' usual cosine, or their
    own least where that is not known, and their own highest."""

    def __init__(self, found: Found, index: int, cutoff: Cutoff | None) -> None:
        self._index = index
        self._cutoff = cutoff
        self._placeholders = found.view.has_thumbnails
        self._granularity = found.granularity
        of_videos = found.units()
        self._units = [of_videos.get(hit.video_id, Units.none()).within(hit.start_s, hit.end_s) for hit in found.hits]
        self._of = {id(hit): units for hit, units in zip(found.hits, self._units, strict=True)}
        cosines = np.concatenate([units.cosine for units in self._units] or [np.zeros(0, np.float32)])
        self._most = float(cosines.max(initial=-1.0))
        self._least = float(cosines.min(initial=1.0)) if found.unit_noise is None else found.unit_noise.mean

    def of(self, hits: Sequence[tuple[Hit, StoredVideo, FileState]]) -> list[SearchHit]:
        return [self._hit(hit, video, state) for hit, video, state in hits]

    def _hit(self, hit: Hit, video: StoredVideo, state: FileState) -> SearchHit:
        video_id, units = hit.video_id, self._of[id(hit)]
        at_s = units.typical_s(self._granularity) if len(units) else (hit.start_s + hit.end_s) / 2
        date, kind = date_of(video.recorded_at, video.modified_at)
        return SearchHit(
            video_id=video_id, uri=hit.uri, score=hit.score, start_s=hit.start_s, end_s=hit.end_s, at_s=at_s,
            media_offset_s=state.media_offset_s, thumbnail=self._thumbnail(video_id, at_s, state),
            media=links.media(video_id, self._index) if state.is_there else None,
            video_score=hit.video_score if isinstance(hit, MomentHit) else None, title=title_of(video_id),
            date=None if date is None else date.isoformat(), date_kind=kind, duration_s=video.duration_s,
            codec=video.codec, width=video.width, height=video.height, fps=video.fps,
            above_cutoff=self._cutoff is None or hit.score >= self._cutoff.score, problem=state.problem,
            placeholder=self._placeholder(video_id, at_s), frames=self._frames(video_id, units.shown(), state),
        )  # fmt: skip

    def _frames(self, video_id: str, units: Units, state: FileState) -> list[Frame]:
        fits = np.clip((units.cosine - self._least) / max(self._most - self._least, 1e-6), 0.0, 1.0)
        rows = zip(
            units.at_s(self._granularity).tolist(), units.start_s.tolist(), units.end_s.tolist(), fits.tolist(),
            units.cosine.tolist(), strict=True,
        )  # fmt: skip
        return [
            Frame(*row, self._thumbnail(video_id, row[0], state), self._placeholder(video_id, row[0])) for row in rows
        ]

    def _thumbnail(self, video_id: str, at_s: float, state: FileState) -> str | None:
        return links.frame(video_id, at_s, self._index) if state.is_there else None

    def _placeholder(self, video_id: str, at_s: float) -> str | None:
        return links.thumbnail(video_id, at_s, self._index) if self._placeholders else None


_Row = tuple[Hit, StoredVideo, FileState]


def _sorted(rows: list[_Row], sort: Sort) -> list[_Row]:
    """The best hits in another order: newest first, those without a date last; or by video and time."""
    if sort == "date":
        return sorted(rows, key=lambda row: _when(row[1]) or _OLDEST, reverse=True)
    if sort == "video":
        return sorted(rows, key=lambda row: (row[0].video_id, row[0].start_s))
    return rows


def _when(video: StoredVideo) -> datetime | None:
    return date_of(video.recorded_at, video.modified_at)[0]


def _cutoff(noise: Noise | None) -> Cutoff | None:
    score = None if noise is None else noise.cutoff
    if noise is None or score is None:
        return None
    return Cutoff(
        score,
        f"Of the {noise.n:,} {_KINDS[noise.of]}, the best one would reach about {score:.2f} by "
        "chance alone: a hit below that may have nothing to do with the query.",
    )
