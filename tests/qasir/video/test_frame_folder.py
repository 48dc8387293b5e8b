"""Folders of numbered pictures as videos."""

import os
import shutil
from fractions import Fraction

import av
import lance
import numpy as np
import pytest
from PIL import Image

from qasir.encoding.encode import encode
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.errors import CorpusError, VideoError
from qasir.video.clip import write_clip
from qasir.video.container import Clock
from qasir.video.corpus import list_videos
from qasir.video.frame_folder import FrameFolder
from qasir.video.frame_footage import open_footage
from qasir.video.frames_uri import FramesUri
from qasir.video.lookup import current_fingerprint
from qasir.video.pictures_in import number_of
from qasir.video.schedule import KeyframeRule
from qasir.video.tile import Tiling, tile
from qasir.video.video_file import modified_at


def grey(value, size=(80, 60)):
    return Image.new("RGB", size, (value, value, value))


def drawn(folder, numbers, *, name="frame_{}.png", size=(80, 60)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        grey(number * 10, size).save(folder / name.format(number))
    return folder


def opened(folder, rate="3"):
    (video,) = list_videos(str(folder), rate=rate).videos
    return FrameFolder(video.uri)


def seen(folder, *clocks, rate="3", **more):
    """[(clock, sample, the number of the picture)] and the end."""
    samples, found = opened(folder, rate).samples(list(clocks), **more), []
    while True:
        try:
            sample = next(samples)
        except StopIteration as stop:
            return found, stop.value
        found.append((sample.clock, sample.index, round(int(sample.frame.to_ndarray()[0, 0, 0]) / 10)))


@pytest.mark.parametrize(
    ("name", "number"),
    [("12.jpg", 12), ("v2_frame0003.JPG", 3), ("9_of_10.webp", 10), ("cover.jpg", None), (".5.png", None),
     ("5.txt", None), (f"{'1' * 19}.png", None)],
)  # fmt: skip
def test_pictures_are_numbered_by_the_last_number_in_their_name(name, number):
    assert number_of(name) == number


def test_a_uri_says_the_rate_and_is_read_again():
    for text in ("/a b/?frame_rate=3", "s3://bucket/v/?frame_rate=30000/1001", "s3://b/v/?region=eu&frame_rate=5/2"):
        assert str(FramesUri.parse(text)) == text
    assert FramesUri.parse("/a?frame_rate=0") is None
    assert FramesUri.parse("/a/v.mp4") is None
    assert FramesUri("s3://b/v/?region=eu", Fraction(2)).place == "s3://b/v/?region=eu"


def test_they_are_sorted_as_numbers_and_sampled_by_the_clock_of_files(tmp_path):
    folder = drawn(tmp_path / "v", range(1, 13))  # frame_2 comes before frame_10; 4 s
    found, end = seen(folder, Clock(Fraction(1)), Clock(Fraction(2), 1, 3))
    assert [each for each in found if each[0] == 0] == [(0, 0, 1), (0, 1, 4), (0, 2, 7), (0, 3, 10)]
    assert [each for each in found if each[0] == 1] == [(1, 1, 2), (1, 2, 4)]
    assert (end.duration_s, end.decode_errors) == (4.0, 0)
    found, end = seen(folder, Clock(Fraction(1), 1, 2))
    assert found == [(0, 1, 4)]
    assert end.duration_s is None


def test_a_missing_number_leaves_the_picture_before_it_on_display(tmp_path):
    found, end = seen(drawn(tmp_path / "v", [1, 2, 6, 7]), Clock(Fraction(3)))
    assert [number for _, _, number in found] == [1, 2, 2, 2, 2, 6, 7]
    assert end.duration_s == pytest.approx(7 / 3)


def test_super_images_are_tiled_the_same_way_whatever_the_sizes(tmp_path):
    folder = drawn(tmp_path / "v", range(1, 9))
    drawn(folder, [4], size=(200, 20))
    (video,) = list_videos(str(folder), rate="2").videos
    (image,) = tile(video.uri, Tiling(Fraction(1), 2, 32))
    corners = image.pixels[[8, 8, 24, 24], [8, 24, 8, 24], 0]
    assert np.abs(corners.astype(int) - [10, 30, 50, 70]).max() <= 1
    assert image.cell_s == (0.0, 1.0, 2.0, 3.0)
    assert image.end_s == 4.0


def test_each_counts_as_a_keyframe(tmp_path):
    video = opened(drawn(tmp_path / "v", range(1, 13)))
    schedule = video.schedule(KeyframeRule(Fraction(1), Fraction(4)))
    assert [tick * schedule.time_base for tick in schedule.ticks] == [0, 1, 2, 3]


def test_a_broken_picture_is_damage(tmp_path):
    folder = drawn(tmp_path / "v", range(1, 10))
    (folder / "frame_4.png").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"frame_4\.png") as error:
        seen(folder, Clock(Fraction(1)))
    assert error.value.kind == "decode"
    found, end = seen(folder, Clock(Fraction(1)), allow_partial=True)
    assert [number for _, _, number in found] == [1, 3, 7]
    assert end.decode_errors == 1
    found, _ = seen(folder, Clock(Fraction(1, 2)))  # which shows it not
    assert [number for _, _, number in found] == [1, 7]


def test_what_cannot_be_a_video_is_refused(tmp_path):
    twice = drawn(tmp_path / "twice", [1, 2])
    grey(0).save(twice / "other_2.png")
    with pytest.raises(VideoError, match="two pictures have the number 2"):
        opened(twice)
    with pytest.raises(VideoError, match="numbers jump"):
        opened(drawn(tmp_path / "jump", [1, 20]), rate="1/200")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "1.jpg").write_bytes(b"")
    with pytest.raises(VideoError) as error:
        opened(broken)
    assert error.value.kind == "no_frames"


def test_listing_by_folder_glob_and_manifest(tmp_path):
    for name in ("a", "b.1", "deep/c"):
        drawn(tmp_path / "frames" / name, [1, 2, 3])
    (tmp_path / "frames" / "empty").mkdir()
    corpus = list_videos(f"{tmp_path}/frames", rate="3")
    assert [video.video_id for video in corpus.videos] == ["a", "b.1", "deep/c"]
    assert list_videos(corpus.source) == corpus
    starred = list_videos(f"{tmp_path}/frames/*/", rate="3")
    assert [video.video_id for video in starred.videos] == ["a", "b.1"]
    assert list_videos(starred.source) == starred
    listed = tmp_path / "list.csv"
    listed.write_text("uri,video_id\nframes/a,one\nframes/gone,two\n")
    one, two = list_videos(str(listed), rate="30000/1001").videos
    assert one.uri == f"{tmp_path}/frames/a/?frame_rate=30000/1001"
    assert two.problem
    with pytest.raises(CorpusError, match="--frame-rate"):
        list_videos(f"{tmp_path}/frames/*/")
    with pytest.raises(CorpusError, match="folders of numbered pictures"):
        list_videos(f"{tmp_path}/frames/empty", rate="3")
    for rate in ("0", "-1", "three", "1/0", "2000"):
        with pytest.raises(CorpusError, match="frame rate"):
            list_videos(f"{tmp_path}/frames", rate=rate)


def test_the_fingerprint_follows_pictures_and_rate(tmp_path):
    folder = drawn(tmp_path / "v", [1, 2, 3])
    (video,) = list_videos(str(folder), rate="3").videos
    assert current_fingerprint(video.uri) == video.fingerprint
    assert modified_at(video.fingerprint) is not None
    assert list_videos(str(folder), rate="4").videos[0].fingerprint != video.fingerprint
    (folder / "notes.txt").write_text("no picture")
    assert current_fingerprint(video.uri) == video.fingerprint
    os.rename(folder / "frame_3.png", folder / "frame_4.png")
    assert current_fingerprint(video.uri) != video.fingerprint
    shutil.rmtree(folder)
    assert current_fingerprint(video.uri) == "missing"


def test_what_is_no_file_is_no_picture(tmp_path):
    folder = drawn(tmp_path / "v", [1, 2, 3])
    (folder / "frame_99.png").mkdir()
    (folder / "frame_50.png").symlink_to(tmp_path / "gone")
    (video,) = list_videos(str(folder), rate="3").videos
    assert current_fingerprint(video.uri) == video.fingerprint
    assert opened(folder).stated_duration_s == 1.0


def test_folders_in_a_manifest_keep_all_of_their_names(tmp_path):
    for name in ("show.s01e01", "show.s01e02"):
        drawn(tmp_path / name, [1])
    listed = tmp_path / "list.csv"
    listed.write_text("uri\nshow.s01e01\nshow.s01e02/\n")
    assert [video.video_id for video in list_videos(str(listed), rate="3").videos] == ["show.s01e01", "show.s01e02"]


def test_a_folder_on_an_object_store_keeps_its_options():
    frames = FramesUri.of_folder("s3://bucket/v 1?region=eu-west-1", Fraction(3))
    assert str(frames) == "s3://bucket/v 1/?region=eu-west-1&frame_rate=3"
    assert FramesUri.parse(str(frames)) == frames


def test_they_are_encoded_like_files(tmp_path):
    folder = drawn(tmp_path / "frames" / "v", range(1, 13))
    listed = tmp_path / "frames?frame_rate=3"
    for index, segment_s in (("whole", 300), ("cut", 1)):
        options = EncodeOptions(segment_s=segment_s, segment_bytes=1)
        summary = encode(str(listed), tmp_path / index, model=EncoderOptions(grid=1), options=options, isolate=False)
        assert (summary.encoded, summary.failed) == (1, 0)
    whole, cut = (
        lance.dataset(f"{tmp_path}/{index}/super_images.lance").to_table().sort_by("position").drop(["fingerprint"])
        for index in ("whole", "cut")
    )
    assert whole == cut
    assert whole["cell_s"].to_pylist() == [[0.0], [1.0], [2.0], [3.0]]
    (row,) = lance.dataset(f"{tmp_path}/whole/videos.lance").to_table().to_pylist()
    assert (row["fps"], row["duration_s"], row["codec"]) == (3.0, 4.0, "png pictures")
    assert row["uri"] == f"{folder}/?frame_rate=3"


def test_people_see_the_picture_on_display(tmp_path):
    folder = drawn(tmp_path / "v", [1, 2, 6])
    (folder / "frame_2.png").write_bytes(b"no picture")
    (video,) = list_videos(str(folder), rate="1").videos
    with open_footage(video.uri) as footage:
        assert footage.frame_at(Fraction(5)).to_ndarray()[0, 0, 0] == 60
        assert footage.frame_at(Fraction(3, 2)).to_ndarray()[0, 0, 0] == 10
        assert [float(shown.at_s) for shown in footage.frames(Fraction(0))] == [0.0, 5.0]


def test_they_are_played_as_clips(tmp_path):
    folder = drawn(tmp_path / "v", range(1, 10))
    (video,) = list_videos(str(folder), rate="3").videos
    clip = tmp_path / "clip.mp4"
    with clip.open("wb") as out:
        write_clip(video.uri, Fraction(1), Fraction(2), out)
    with av.open(str(clip)) as container:
        frames = list(container.decode(video=0))
    assert [round(float(frame.time), 3) for frame in frames] == [0.0, 0.333, 0.667]
    assert frames[0].to_ndarray(format="rgb24").mean() == pytest.approx(40, abs=4)
