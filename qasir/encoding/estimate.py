"""What encoding a corpus will take, before it is begun: from a sample of its files, which are decoded for a moment, and
a few batches of the models. Nothing is written and no index is held.

Two looks at the corpus (two-phase sampling: Cochran, chapter 12): the headers of many files say how much video there
is, decoding some of those what it takes. `qasir.encoding.corpus_sample` says how files are chosen and what intervals
are, `qasir.encoding.forecast` how times follow.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil

from qasir.encoding.choices import Choice, choices_of
from qasir.encoding.corpus_sample import Estimated, Interval, linear, mean, ratio, strata, total, turns, weights
from qasir.encoding.forecast import Forecast, Sizes, Totals, seconds_of, startup
from qasir.encoding.index_size import index_bytes
from qasir.encoding.measure_decoding import Subject, Timing, read_headers, time_decoding
from qasir.encoding.measure_encoding import EncodingTimes
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions
from qasir.encoding.rows import plan_table
from qasir.encoding.watched_calls import Answer, Calls, Function
from qasir.errors import QasirError
from qasir.index.changes import Changes, compare
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import Corpus, VideoFile

INTERVALS = "95 %, Student's t over the files of each stratum"
MOST_HEADERS = 2_000
_HEADERS_S, _DECODING_S, _OTHERS_S, _GRACE_S = 6.0, 20.0, 10.0, 8.0
"""How long files are taken up to read headers, to time the settings as asked, and then their neighbours; and how much
longer a file may go on: a minute in all."""
_MOST_TIMED = 200
_STRATA = 8
_USUAL_FPS = 25.0
"""For a file that does not say: only how files compare matters."""


@dataclass(frozen=True)
class Header:
    """What the header of a file says, or of its length the packets."""

    duration_s: float
    pixels_a_second: float


@dataclass
class Work:
    """What a run would encode now: the videos of which at least one index has no row of this version.

    needs: {video_id: the numbers of the indexes that need it}. unreadable: how many of the videos cannot be opened, as
    listing found.
    """

    videos: list[VideoFile]
    needs: dict[str, list[int]]
    changes: list[Changes]
    unreadable: int

    @classmethod
    def of(cls, corpus: Corpus, targets: Sequence[Target]) -> "Work":
        changes = [compare(corpus, target.index.states()) for target in targets]
        videos: dict[str, VideoFile] = {}
        needs: dict[str, list[int]] = {}
        for number, change in enumerate(changes):
            for video in change.todo:
                videos[video.video_id] = video
                needs.setdefault(video.video_id, []).append(number)
        there = [video for video in videos.values() if video.problem is None]
        return cls(there, needs, changes, len(videos) - len(there))


@dataclass
class Sample:
    """How much of the corpus was looked at.

    headers: files whose header was read; timed: of those, the ones that were decoded in part or whole; timed_otherwise:
    of those, the ones that were decoded with other settings too; given_up: those that took too long. without_length:
    those of which neither the header nor packets say how long they are, which count as the others do. failures: {kind:
    files of the sample that would fail}. seconds: how long it took.
    """

    headers: int = 0
    timed: int = 0
    timed_otherwise: int = 0
    given_up: int = 0
    without_length: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """What a run would do and take. video_hours: as headers or packets say. decode_cpu_s: seconds of a core to cut,
    decode and tile all videos; encode_s: for each index, to encode one super image. forecasts: as asked first, then
    those of its neighbours that there was time to look at; of nothing to do, none."""

    work: Work
    sample: Sample
    video_hours: Interval
    failing: Interval
    decode_cpu_s: Interval
    encode_s: tuple[Interval, ...]
    forecasts: tuple[Forecast, ...] = ()

    @property
    def is_up_to_date(self) -> bool:
        return not self.work.videos and not self.work.unreadable


def estimate(
    corpus: Corpus,
    targets: Sequence[Target],
    options: EncodeOptions,
    calls: Calls,
    *,
    time_models: Callable[[Sequence[float]], Callable[[], Answer]],
    sizes: Sizes,
    beside_s: float,
) -> Estimate:
    """calls: what looks at files. time_models: begins to time the models, for about how many super images each index
    gets. sizes: how many workers those get. beside_s: how long a run takes to start and to end, the loading of models
    aside.

    Raises ModelError when a model cannot be loaded, QasirError when no file could be timed in a minute.
    """
    since = time.monotonic()
    work = Work.of(corpus, targets)
    nothing = Interval(0.0, 0.0, 0.0)
    if not work.videos:
        unreadable = float(work.unreadable)
        return Estimate(work, Sample(), nothing, Interval(unreadable, unreadable, unreadable), nothing, ())
    choices = choices_of([target.index.spec for target in targets])
    look = _Look(work, choices, options)
    look.read_headers(calls)
    look.sample.seconds = time.monotonic() - since
    if not look.headers:
        return Estimate(work, look.sample, nothing, look.failing(), nothing, ())
    asked_at = time.time()
    answer = time_models([look.header_images(spec, number).value for number, spec in enumerate(choices[0].specs)])
    look.time_decoding(calls)
    tables = answer()
    if tables is None:
        raise QasirError("the process that timed the models died, and said why on stderr")
    times = EncodingTimes.of(tables, len(targets))
    look.sample.seconds = time.monotonic() - since
    forecasts: list[Forecast] = []
    encode_s: tuple[Estimated, ...] = ()
    for choice in choices:
        totals = look.totals(choice)
        if totals is None:
            continue
        capacity = sizes([n.value for n in totals.images])
        encode_s = tuple(map(mean, times.core_s if capacity.shares_cores else times.wall_s))
        starting_s = startup(beside_s, times.ready_at - asked_at, times.loading_core_s, capacity)
        bounds, seconds = seconds_of(totals, encode_s, capacity, starting_s)
        forecasts.append(
            Forecast(
                choice.name, choice.specs, totals.n_images.interval(), seconds, starting_s, bounds,
                tuple(look.size_of(totals, number, spec) for number, spec in enumerate(choice.specs)),
            )
        )  # fmt: skip
    asked = look.totals(choices[0])
    assert asked is not None
    return Estimate(
        work, look.sample, asked.video_s.scaled(1 / 3600).interval(), look.failing(), asked.decode_cpu_s.interval(),
        tuple(each.interval() for each in encode_s), tuple(forecasts),
    )  # fmt: skip


class _Look:
    """What is seen of the videos to do; files are known by their number among those."""

    def __init__(self, work: Work, choices: Sequence[Choice], options: EncodeOptions) -> None:
        self.sample = Sample()
        self.headers: dict[int, Header] = {}
        self._work = work
        self._choices = choices
        self._options = options
        self._parts = strata([float(video.size_bytes) for video in work.videos], _STRATA)
        self._failed: dict[int, str] = {}
        self._timed_parts: list[list[int]] = []
        self._timings: dict[int, dict[int, Timing]] = {}

    # The first look

    def read_headers(self, calls: Calls) -> None:
        files = list(turns(self._parts))[:MOST_HEADERS]
        asked = [
            partial(read_headers, plan_table([self._work.videos[i]], self._needs(i)), self._options) for i in files
        ]
        for number, tables in calls.each(asked, begin_s=_HEADERS_S, end_s=_HEADERS_S + _GRACE_S):
            self.sample.headers += 1
            if tables is None:
                self._failed[files[number]] = "crashed"
                continue
            (row,) = tables[0].to_pylist()
            if row["error_kind"] is not None:
                self._failed[files[number]] = row["error_kind"]
            elif row["duration_s"]:
                pixels = row["width"] * row["height"] * (row["fps"] or _USUAL_FPS)
                self.headers[files[number]] = Header(row["duration_s"], float(pixels))
            else:
                self.sample.without_length += 1
        self.sample.failures.update(self._failed.values())
        if not self.sample.headers:
            raise QasirError(
                f"none of {len(files)} videos was opened in {_HEADERS_S + _GRACE_S:.0f} s: their storage or this "
                "machine is too slow to estimate anything"
            )

    def _needs(self, i: int) -> dict[str, dict[int, list[int]]]:
        video_id = self._work.videos[i].video_id
        return {video_id: {number: [] for number in self._work.needs[video_id]}}

    def _total(self, values: Mapping[int, float]) -> Estimated:
        """Over all videos, of what is 0 for those that fail."""
        return total(self._parts, {**dict.fromkeys(self._failed, 0.0), **values})

    def header_images(self, spec: EncoderSpec, index: int) -> Estimated:
        """Super images of an index, as far as headers say."""
        return self._total({i: self._images(i, spec, index) for i in self.headers})

    def _images(self, i: int, spec: EncoderSpec, index: int) -> float:
        if index not in self._work.needs[self._work.videos[i].video_id]:
            return 0.0
        return float(ceil(ceil(self.headers[i].duration_s * spec.fps) / spec.frames_per_super_image))

    # The second look

    def time_decoding(self, calls: Calls) -> None:
        files = sorted(self.headers)
        found = strata([self._pixels(i) for i in files], _STRATA)
        self._timed_parts = [[files[at] for at in part] for part in found]
        chosen = [files[at] for at in turns(found)][:_MOST_TIMED]
        self._time(calls, chosen, [self._choices[0]], _DECODING_S)
        self.sample.timed = len(self._timings)
        if not self._timings:
            raise QasirError(
                f"none of {len(chosen)} videos was decoded in {_DECODING_S + _GRACE_S:.0f} s: their storage or this "
                "machine is too slow to estimate anything"
            )
        whole = [i for i in chosen if i in self._timings and self._timings[i][0].error_kind is None]
        others = [choice for number, choice in enumerate(self._choices) if choice.timed_as == number > 0]
        self._time(calls, whole, others, _OTHERS_S)
        self.sample.timed_otherwise = sum(len(some) > 1 for some in self._timings.values())
        kinds = [some[0].error_kind for some in self._timings.values()]
        self.sample.failures.update(kind for kind in kinds if kind is not None)

    def _time(self, calls: Calls, files: Sequence[int], choices: Sequence[Choice], begin_s: float) -> None:
        specs = {choice.timed_as: choice.specs for choice in choices}
        begun = 0

        def functions() -> Iterator[Function]:
            nonlocal begun
            for begun, i in enumerate(files, 1):  # noqa: B007  counted for when it is left
                yield partial(time_decoding, self._subject(i), specs, self._options)

        n_answers = 0
        for number, tables in calls.each(functions(), begin_s=begin_s, end_s=begin_s + _GRACE_S):
            n_answers += 1
            found = self._timings.setdefault(files[number], {})
            if tables is None:
                found |= {choice: self._crashed(files[number], choice) for choice in specs}
            else:
                found |= {row["choice"]: Timing(**row) for table in tables for row in table.to_pylist()}
        self.sample.given_up += begun - n_answers

    def _crashed(self, i: int, number: int) -> Timing:
        none = (0.0,) * len(self._choices[0].specs)
        return Timing(self._work.videos[i].video_id, number, 0.0, 0.0, none, error_kind="crashed")

    def _pixels(self, i: int) -> float:
        return self.headers[i].duration_s * self.headers[i].pixels_a_second

    def _subject(self, i: int) -> Subject:
        (row,) = plan_table([self._work.videos[i]], self._needs(i)).to_pylist()
        beside_s = self._timings[i][0].beside_s if i in self._timings else None
        return Subject(row, self.headers[i].duration_s, self.headers[i].pixels_a_second, beside_s)

    # What follows

    def _ratio(
        self, number: int, y: Callable[[Timing], float], x: Callable[[int], float], *, is_timed: bool = False
    ) -> Estimated:
        """Of all files, sum(y) over sum(x), from those timed by the choice of this number."""
        weight = weights(self._parts, {**self.headers, **self._failed})
        timed = {i: y(some[number]) for i, some in self._timings.items() if number in some}
        return ratio(self._timed_parts, weight, timed, {i: x(i) for i in timed}, is_timed=is_timed)

    def totals(self, choice: Choice) -> Totals | None:
        """Of all videos to do, by this choice; None where there was no time to look at it."""
        number = choice.timed_as
        timings = [some[number] for some in self._timings.values() if number in some]
        if not timings:
            return None
        pixels = self._total({i: self._pixels(i) for i in self.headers})
        cpu_s = pixels.times(self._ratio(0, lambda timing: timing.cpu_s, self._pixels, is_timed=True))
        wait_s = pixels.times(self._ratio(0, lambda timing: timing.wait_s, self._pixels, is_timed=True))
        if number:
            by_asked = self._ratio(
                number, lambda timing: timing.cpu_s, lambda i: self._timings[i][0].cpu_s, is_timed=True
            )
            cpu_s, wait_s = cpu_s.times(by_asked), wait_s.times(by_asked)
        n_thumbnails = sum(timing.thumbnails for timing in timings)
        return Totals(
            self._total({i: header.duration_s for i, header in self.headers.items()}),
            tuple(self._super_images(choice, index, spec) for index, spec in enumerate(choice.specs)),
            cpu_s, wait_s,
            sum(timing.thumbnail_bytes for timing in timings) / n_thumbnails if n_thumbnails else 0.0,
        )  # fmt: skip

    def _super_images(self, choice: Choice, index: int, spec: EncoderSpec) -> Estimated:
        """What headers say, by what decoding found of that: less where files fail or keyframes are rare."""
        stated = self.header_images(spec, index)
        if not stated.value:
            return Estimated(0.0)
        timed_spec = self._choices[choice.timed_as].specs[index]
        found = self._ratio(
            choice.timed_as, lambda timing: timing.images[index], lambda i: self._images(i, timed_spec, index)
        )
        if choice.timed_as:
            failed = self._ratio(0, lambda timing: float(timing.error_kind is None), lambda i: 1.0)
            found = found.times(failed)
        return stated.times(found)

    def failing(self) -> Interval:
        """How many of the videos would fail, those included that listing found."""
        seen = self._total(dict.fromkeys(self.headers, 0.0) | dict.fromkeys(self._failed, 1.0))
        there = self._total(dict.fromkeys(self.headers, 1.0))
        if self._timings:
            whole = self._ratio(0, lambda timing: float(timing.error_kind is None), lambda i: 1.0)
            seen = linear([(1.0, seen), (1.0, there), (-1.0, there.times(whole))])
        found, beside = seen.interval(), self._work.unreadable
        return Interval(found.value + beside, found.low + beside, found.high + beside)

    def size_of(self, totals: Totals, number: int, spec: EncoderSpec) -> dict[str, dict[str, float]]:
        """{table: {column: bytes}} that a run would add to an index."""
        ids = [video for video in self._work.videos if number in self._work.needs[video.video_id]]
        lengths = {
            name: sum(len(str(getattr(video, name)).encode()) for video in ids) / max(1, len(ids))
            for name in ("video_id", "uri", "fingerprint")
        }
        return index_bytes(
            spec, n_videos=float(len(ids)), n_super_images=totals.images[number].value,
            lengths={**lengths, "thumbnail": totals.thumbnail_bytes},
        )  # fmt: skip
