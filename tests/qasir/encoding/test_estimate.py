"""The estimate on tiny videos, called in this process; `tests/jobs/test_estimate.py` has it in children."""

import os
import time
from functools import partial

import pyarrow as pa
import pytest
from PIL import Image

from qasir.encoding.bounds import Capacity
from qasir.encoding.choices import choices_of
from qasir.encoding.estimate import estimate
from qasir.encoding.measure_decoding import Subject, Timing, time_decoding
from qasir.encoding.measure_encoding import ENCODING_SCHEMA
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions
from qasir.encoding.rows import plan_table
from qasir.errors import ModelError, QasirError
from qasir.index.index import Index
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import list_videos
from tests.qasir.encoding.stubs import SPEC, encode_stubbed
from tests.videos import break_frame, write_video

CAPACITY = Capacity(cores=2.0, decoders=3, encoders=2, encoder_threads=1)
THUMBNAILS = EncoderSpec(**{**vars(SPEC), "thumbnails": True})


class CallsHere:
    """`Calls` in this process, of the first `most` functions; the `deadly` die."""

    def __init__(self, most=1000, deadly=()):
        self.most, self.deadly = most, deadly

    def each(self, functions, *, begin_s, end_s):
        for number, function in enumerate(functions):
            if number == self.most:
                return
            yield number, None if number in self.deadly else list(function())


def model_times(images, *, core_s=0.5, failure=None):
    rows = [{"at": time.time(), "core_s": 3.0, "failure": failure}]
    rows += [{"index": index, "core_s": core_s, "wall_s": core_s, "at": 0.0} for index in range(len(images))] * 3
    return lambda: [pa.Table.from_pylist(rows, schema=ENCODING_SCHEMA)]


def estimated(folder, uri, *, calls=None, specs=(SPEC,), uris=None, time_models=model_times, rate=None):
    corpus = list_videos(str(folder), rate=rate)
    indexes = [
        Index.open_or_new(str(uri), spec, corpus.root, corpus.source)
        for spec, uri in zip(specs, uris or [uri], strict=True)
    ]
    return estimate(
        corpus, [Target(index, None) for index in indexes], EncodeOptions(decode_timeout_s=None, decode_memory=None),
        calls or CallsHere(), time_models=time_models, sizes=lambda images: CAPACITY, beside_s=7.0,
    )  # fmt: skip


def test_what_a_run_then_does_is_what_was_estimated(videos, tmp_path):
    found = estimated(videos, tmp_path / "index", specs=[THUMBNAILS])
    assert not (tmp_path / "index").exists()
    summary, index = encode_stubbed(videos, tmp_path / "index", spec=THUMBNAILS)
    asked = found.forecasts[0]
    assert asked.name == "as asked"
    assert asked.super_images.is_exact
    assert asked.super_images.value == summary.super_images == 5
    assert found.video_hours.value * 3600 == pytest.approx(summary.video_seconds)
    assert (found.sample.headers, found.sample.timed, found.failing.value) == (3, 3, 0)
    images = index.table("super_images").to_table()
    sizes = asked.index_bytes[0]["super_images"]
    for name in ("embedding", "cell_embeddings"):
        width = images[name].type.list_size
        assert sizes[name] == 5 * 2 * width
    assert sizes["thumbnail"] == pytest.approx(sum(map(len, images["thumbnail"].to_pylist())) + 4 * 5)
    assert list(sizes) == images.schema.names


def test_neighbours_have_the_super_images_that_they_would_have(videos, tmp_path):
    found = {each.name: each for each in estimated(videos, tmp_path / "index").forecasts}
    assert list(found) == ["as asked", "N = 1", "N = 3", "keyframes", "half the rate"]
    for name, each in found.items():
        summary, _ = encode_stubbed(videos, tmp_path / name, spec=each.specs[0])
        assert each.super_images.value == summary.super_images, name
    assert found["N = 1"].seconds.value > found["as asked"].seconds.value > found["half the rate"].seconds.value > 7.0


def test_time_is_start_up_and_the_work_over_the_cores(videos, tmp_path):
    found = estimated(videos, tmp_path / "index")
    asked = found.forecasts[0]
    expected = asked.startup_s + (found.decode_cpu_s.value + 5 * (0.5 + 0.001)) / 2 / 0.9
    assert asked.seconds.value == pytest.approx(expected)
    assert asked.startup_s == pytest.approx(7.0 + 3.0 / 2, abs=0.5)  # the other encoder's on both cores
    assert asked.seconds.low < asked.seconds.value < asked.seconds.high
    assert "encoding bounds this" in asked.sentence


def test_an_index_that_is_up_to_date_leaves_nothing_to_estimate(videos, tmp_path):
    encode_stubbed(videos, tmp_path / "index")
    before = sorted(path for path in (tmp_path / "index").rglob("*"))
    found = estimated(videos, tmp_path / "index", calls=CallsHere(most=0))
    assert found.is_up_to_date
    assert found.forecasts == ()
    assert found.work.changes[0].n_unchanged == 3
    write_video(videos / "new.mp4", 30)
    os.utime(videos / "a.mp4", (1, 1))
    found = estimated(videos, tmp_path / "index")
    assert (len(found.work.changes[0].new), len(found.work.changes[0].changed)) == (1, 1)
    assert found.forecasts[0].super_images.value == 4
    assert sorted(path for path in (tmp_path / "index").rglob("*")) == before


def test_broken_files_are_counted_and_take_no_encoding(videos, tmp_path):
    (videos / "bad.mp4").write_text("no video")
    break_frame(write_video(videos / "cut.mp4", 30, options={"g": "10"}), 15)
    found = estimated(videos, tmp_path / "index")
    assert found.sample.failures == {"not_a_video": 1, "decode": 1}
    summary, _ = encode_stubbed(videos, tmp_path / "index")
    assert found.failing.value == summary.failed == 2
    assert found.forecasts[0].super_images.value == summary.super_images


def test_of_broken_files_alone_it_is_said_that_they_would_fail(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in "ab":
        (tmp_path / "videos" / f"{name}.mp4").write_text("no video")
    found = estimated(tmp_path / "videos", tmp_path / "index")
    assert (found.forecasts, found.failing.value, found.is_up_to_date) == ((), 2.0, False)


def test_a_file_that_kills_its_decoder_is_one_that_fails(videos, tmp_path):
    class DeadlyTiming(CallsHere):
        def each(self, functions, **limits):
            for number, function in enumerate(functions):
                yield number, None if function.func is time_decoding and number == 0 else list(function())

    found = estimated(videos, tmp_path / "index", calls=DeadlyTiming())
    assert found.sample.failures == {"crashed": 1}
    assert found.forecasts[0].super_images.value < 5


def test_what_was_not_looked_at_is_left_open(tmp_path):
    for number in range(12):
        write_video(tmp_path / "videos" / f"{number:02}.mp4", 10 + 5 * number)
    found = estimated(tmp_path / "videos", tmp_path / "index", calls=CallsHere(most=8))
    assert (found.sample.headers, found.sample.timed) == (8, 8)
    hours = found.video_hours
    assert hours.low < hours.value < hours.high
    assert hours.low * 3600 <= sum(1.0 + 0.5 * n for n in range(12)) <= hours.high * 3600


def test_nothing_timed_is_an_error(videos, tmp_path):
    class HeadersAlone(CallsHere):
        def each(self, functions, **limits):
            return super().each([f for f in functions if f.func is not time_decoding], **limits)

    with pytest.raises(QasirError, match=r"none of 3 videos was decoded"):
        estimated(videos, tmp_path / "index", calls=HeadersAlone())


def test_a_model_that_cannot_be_loaded_is_an_error(videos, tmp_path):
    with pytest.raises(ModelError, match="no such weights"):
        estimated(videos, tmp_path / "index", time_models=partial(model_times, failure="no such weights"))


def test_folders_of_pictures_are_estimated_too(tmp_path):
    for number in range(24):
        path = tmp_path / "frames" / "one" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (10 * number, 0, 0)).save(path)
    found = estimated(tmp_path / "frames", tmp_path / "index", rate="3")
    assert found.video_hours.value * 3600 == pytest.approx(8.0)
    assert found.forecasts[0].super_images.value == 4
    assert found.sample.failures == {}


def test_several_indexes_are_estimated_together(videos, tmp_path):
    encode_stubbed(videos, tmp_path / "one")
    write_video(videos / "new.mp4", 40)
    other = EncoderSpec(**{**vars(SPEC), "grid": 3, "fps": 1.0})
    found = estimated(videos, None, specs=[SPEC, other], uris=[tmp_path / "one", tmp_path / "two"])
    asked = found.forecasts[0]
    counts = [each["super_images"]["n_valid"] / 4 for each in asked.index_bytes]
    assert counts == [encode_stubbed(videos, tmp_path / "one")[0].super_images, 4]
    assert asked.super_images.value == sum(counts)
    assert [each.name for each in found.forecasts][1:3] == ["N - 1", "N + 1"]


def test_a_stretch_tells_of_the_whole(tmp_path):
    path = write_video(tmp_path / "long.mp4", 1200, options={"g": "50"})
    video = list_videos(str(path)).videos[0]
    (row,) = plan_table([video], {video.video_id: {0: []}}).to_pylist()
    options = EncodeOptions(decode_timeout_s=None, decode_memory=None)
    subjects = [Subject(row, 120.0, pixels) for pixels in (1e9, 1.0)]
    tables = [list(time_decoding(subject, {0: (SPEC,)}, options)) for subject in subjects]
    part, all_of_it = (Timing(**table.to_pylist()[0]) for (table,) in tables)
    assert list(part.images) == list(all_of_it.images) == [60.0]
    assert 0.4 * all_of_it.cpu_s < part.cpu_s < 2.5 * all_of_it.cpu_s


def test_choices_at_the_ends_of_what_there_is():
    sparse = EncoderSpec(**{**vars(SPEC), "grid": 16, "sampling": "keyframes", "max_gap_s": 2.0})
    names = [choice.name for choice in choices_of([sparse])]
    assert names == ["as asked", "N = 15", "uniform", "half the rate"]
    assert choices_of([sparse])[2].specs[0].max_gap_s == 0.0
    assert [choice.timed_as for choice in choices_of([sparse])] == [0, 0, 2, 3]
    dense = EncoderSpec(**{**vars(SPEC), "grid": 1})
    assert [choice.name for choice in choices_of([dense])][1] == "N = 2"


def test_choices_have_the_gap_that_encode_would_take():
    rare = EncoderSpec(**{**vars(SPEC), "fps": 0.1, "sampling": "uniform", "max_gap_s": 0.0})
    (keyframes,) = (choice.specs[0] for choice in choices_of([rare]) if choice.name == "keyframes")
    assert keyframes.max_gap_s == 10.0
    often = EncoderSpec(**{**vars(SPEC), "fps": 0.25, "sampling": "keyframes", "max_gap_s": 4.0})
    (halved,) = (choice.specs[0] for choice in choices_of([often]) if choice.name == "half the rate")
    assert (halved.fps, halved.max_gap_s) == (0.125, 8.0)
