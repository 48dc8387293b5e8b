"""MOF from videos to a checkpoint, without Ray."""

import json
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from qasir.encoding.options import EncodeOptions
from qasir.errors import QasirError, QueryError, SpecError
from qasir.evaluation.query import Query
from qasir.training.mof.clip_reading import read_here
from qasir.training.mof.clip_table import clips_of
from qasir.training.mof.clips import READ_SCHEMA, failure, read_clips
from qasir.training.mof.frame_table import FrameTable
from qasir.training.mof.learn import train_mof
from qasir.training.mof.material import Captioned
from qasir.training.mof.mof_training import FRAMES_TABLE, MODEL
from qasir.training.mof.pixels import PixelScale
from qasir.training.mof.settings import MofSettings, Objective
from qasir.video.corpus import Corpus, VideoFile, list_videos
from qasir.video.tile import Tiling
from tests.qasir.training.dying import writes_survived
from tests.qasir.training.mof.made_up import NOUNS, QUICK, SIDE, Made
from tests.qasir.training.mof.readers import trouble
from tests.videos import write_blank, write_video


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made.in_folder(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def whole(made):
    """(folder, result) of a training that nothing stopped."""
    told = []
    result = made.train(made.folder / "whole", on_epoch=told.append)
    assert told == result["history"]
    return made.folder / "whole", result


def test_the_frames_move(whole):
    folder, result = whole
    history = json.loads((folder / "history.json").read_text())
    assert [record["epoch"] for record in history] == [0, 1, 2]
    assert history[2]["displacement"] > history[1]["displacement"] > 0.01
    assert result["before"] == history[0]
    assert result["best"]["SumR"] == max(record["SumR"] for record in history[1:])
    assert result["peak_mib"] > 0


def test_the_dense_loss_falls(made, tmp_path):
    settings = replace(QUICK, epochs=8, batch_size=5, lr=0.0, inner_lr=10.0)
    history = made.train(tmp_path / "out", settings)["history"]
    losses = [record["dense_loss"] for record in history[1:]]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])


def test_the_result_is_a_checkpoint_of_what_trained(made, whole):
    stored, before = load_file(whole[0] / MODEL), made.vlm().module.state_dict()
    assert set(stored) == set(before)
    changed = {name for name, value in stored.items() if not torch.equal(value, before[name])}
    assert {"visual.proj", "text_projection"} <= changed
    assert not any("resblocks.0." in name for name in changed)


def test_there_are_pictures_of_what_frames_became(whole):
    pictures = sorted(whole[0].glob("frames_*.png"))
    assert len(pictures) == 3
    assert Image.open(pictures[0]).size[0] > QUICK.frames * SIDE


def test_a_training_that_has_ended_stays_as_it_is(made, whole):
    folder, result = whole
    before = (folder / MODEL).read_bytes()
    again = made.train(folder)
    assert again["best"] == result["best"]
    assert (folder / MODEL).read_bytes() == before


def train_in(folder):
    torch.set_num_threads(1)
    Made(folder.parent).train(folder)


@pytest.mark.slow
def test_a_training_killed_at_any_write_goes_on_to_the_same_checkpoint(whole, made):
    """A process that ends before its first, second, ... file or table is written; then the same again, to the end."""
    n_killed = 0
    for folder, was_killed in writes_survived(train_in, (made.folder / f"killed_{n}" for n in range(100))):
        told = []
        result = made.train(folder, on_epoch=told.append)
        assert [record["epoch"] for record in told] == [0, 1, 2]
        assert result["best"]["epoch"] == whole[1]["best"]["epoch"]
        assert (folder / MODEL).read_bytes() == (whole[0] / MODEL).read_bytes()
        assert torch.equal(learned(folder), learned(whole[0]))
        if not was_killed:
            break
        n_killed += 1
    assert n_killed >= 3 + 2 * 3 + 2  # tables of clips and frames; frames, state and history an epoch; the result


def learned(folder):
    table = FrameTable(str(folder / FRAMES_TABLE))
    return table.load(sorted(table.video_ids)).frames


@pytest.mark.parametrize("method", ["plain", "dense"])
def test_what_mof_is_compared_with(made, method, tmp_path):
    settings = replace(QUICK, method=method, grid=2, objective=Objective("attention"))
    result = made.train(tmp_path / "out", settings)
    assert "dense_loss" not in result["best"]
    assert not (tmp_path / "out" / FRAMES_TABLE).exists()


def test_frames_that_are_clamped_are_colours(made, tmp_path):
    made.train(tmp_path / "out", replace(QUICK, clamp=True, epochs=1))
    frames = learned(tmp_path / "out")
    np.testing.assert_allclose(PixelScale(*made.vlm().pixel_scale).clamp(frames), frames, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": 4, "dense_frames": 3}, "4 frames of 3 dense ones"),
        ({"method": "x"}, "method 'x'"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batches"),
        ({"lr": -1.0}, "learning rates"),
        ({"fps": 0.0}, "fps"),
        ({"grid": 0}, "grid"),
        ({"sampling": "x"}, "sampling 'x'"),
        ({"max_gap_s": 2.0}, "--max-gap goes with"),
        ({"sampling": "keyframes", "max_gap_s": 0.5}, "max gap 0.5 s is shorter"),
    ],
)
def test_bad_settings(change, says):
    with pytest.raises(SpecError, match=says):
        MofSettings(**change)


def test_layers_and_poolings_there_are_not(made, tmp_path):
    with pytest.raises(SpecError, match="layers 'x'"):
        made.train(tmp_path / "out", replace(QUICK, layers="x"))
    with pytest.raises(SpecError, match="pooling 'x'"):
        Objective("x")


@pytest.mark.parametrize(
    ("options", "useless"),
    [
        (MofSettings(), set()),
        (MofSettings(method="plain"), {"frame_lr", "inner_lr", "clamp", "frame_steps_per_epoch"}),
        (MofSettings(method="dense"), {"frame_lr", "inner_lr", "clamp", "frame_steps_per_epoch"}),
        (MofSettings(frame_steps_per_epoch=0), {"frame_lr", "inner_lr", "clamp"}),
        (Objective(), {"attention_temperature"}),
        (Objective("attention"), set()),
    ],
)
def test_what_a_choice_has_no_use_for_is_listed(options, useless):
    assert set(options.useless) == useless


def test_other_settings_need_another_folder(made, whole):
    with pytest.raises(SpecError, match="seed: 0 then, 5 now"):
        made.train(whole[0], replace(QUICK, seed=5))


def test_short_videos_broken_ones_and_those_nobody_asks_for(made, tmp_path, caplog):
    """One frame only (it is taken several times), no video at all, and one without a query."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for noun in NOUNS:
        (videos / f"{noun}.mp4").symlink_to(made.folder / "videos" / f"{noun}.mp4")
    write_video(videos / "short.mp4", n_frames=1)
    write_video(videos / "unasked.mp4", n_frames=30)
    (videos / "broken.mp4").write_bytes(b"nothing")
    train = Captioned(list_videos(str(videos)), [*made.captioned.queries, Query("s", "a flash", "short")])
    train_mof(made.vlm(), train, made.captioned, replace(QUICK, epochs=1), tmp_path / "out")
    assert "1 of 8 videos cannot be read and are left out: broken" in caplog.text
    assert "1 train videos have no query" in caplog.text
    assert "short" in FrameTable(str(tmp_path / "out" / FRAMES_TABLE)).video_ids


def test_a_video_of_too_few_frames_is_named(made, tmp_path, caplog):
    def read(videos, tiling, n_frames):
        return (read_clips(some, tiling, 1) for some in videos)

    clips = clips_of(made.captioned.corpus, str(tmp_path / "clips.lance"), made.tiling(), 5, read)
    assert all(len(frames) == 1 for frames in clips.load(NOUNS))
    assert "1 videos gave fewer than 5 frames, cat first" in caplog.text


@pytest.mark.slow
def test_a_video_that_hangs_or_kills_its_decoder_is_left_out_and_named(made, tmp_path, caplog):
    read = partial(read_here, read=trouble, options=EncodeOptions(decode_timeout_s=3.0))
    clips = clips_of(made.captioned.corpus, str(tmp_path / "clips.lance"), made.tiling(), 3, read)
    assert clips.video_ids == sorted(set(NOUNS) - {"dog", "car"})
    assert "2 of 5 videos cannot be read and are left out" in caplog.text
    assert "dog (timed_out: decoding made no progress for 3.0 s)" in caplog.text
    assert "car (crashed: the process that decodes it dies of SIGSEGV)" in caplog.text


def test_whatever_decoding_raises_is_that_video_s_failure(made):
    """An image size that no frame can be scaled to, say."""
    videos = pa.table({"video_id": ["cat"], "uri": [str(made.folder / "videos" / "cat.mp4")]})
    (row,) = read_clips(videos, replace(made.tiling(), image_size=-3), 3).to_pylist()
    assert row["error"].startswith("decode: ")
    assert (row["n_frames"], row["n_there"]) == (0, 0)


def test_a_video_of_which_nothing_is_said_is_an_error_and_no_table_is_made(made, tmp_path):
    def read(videos, tiling, n_frames):
        return (read_clips(some, tiling, n_frames) for some in videos if some["video_id"][0].as_py() != "dog")

    for _ in range(2):
        with pytest.raises(QasirError, match="1 of 5 videos did not come back: dog"):
            clips_of(made.captioned.corpus, str(tmp_path / "clips.lance"), made.tiling(), 3, read)


@pytest.mark.parametrize(("n_videos", "n_broken", "is_too_many"), [(5, 4, False), (20, 2, False), (20, 3, True)])
def test_a_tenth_of_the_videos_may_fail(made, tmp_path, n_videos, n_broken, is_too_many):
    corpus = Corpus("/v", "/v", tuple(VideoFile(f"v{v:02}", f"{v}", 1, "f") for v in range(n_videos)))

    def read(videos, tiling, n_frames):
        for number, some in enumerate(videos):
            video_id = some["video_id"][0].as_py()
            there = {"video_id": video_id, "n_frames": 1, "frames": bytes(3 * SIDE * SIDE), "n_there": 9}
            whole = pa.Table.from_pylist([there], schema=READ_SCHEMA)
            yield failure(video_id, "io", "gone") if number < n_broken else whole

    uri = str(tmp_path / "clips.lance")
    if is_too_many:
        with pytest.raises(QasirError, match=r"3 of 20 videos cannot be read, more than 10%.*v00 \(io: gone\); v01"):
            clips_of(corpus, uri, made.tiling(), 1, read)
    else:
        assert len(clips_of(corpus, uri, made.tiling(), 1, read).video_ids) == n_videos - n_broken


def test_no_video_that_can_be_read(made, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(QasirError, match="not one of 1 videos can be read: broken"):
        train_mof(
            made.vlm(), Captioned(list_videos(str(tmp_path / "videos")), []), made.captioned, QUICK, tmp_path / "out"
        )


@pytest.mark.parametrize(("videos", "says"), [(["elsewhere"], "none of the 1 queries"), (["cat"], "about 1 video")])
def test_queries_that_tell_no_videos_apart(made, tmp_path, videos, says):
    queries = [Query(name, "a cat", name) for name in videos]
    with pytest.raises(QueryError, match=says):
        train_mof(made.vlm(), replace(made.captioned, queries=queries), made.captioned, QUICK, tmp_path / "out")


def test_clips_are_made_once_and_not_of_something_else(made, tmp_path):
    uri, tiling = str(tmp_path / "clips.lance"), made.tiling()
    first = clips_of(made.captioned.corpus, uri, tiling, 3)

    def unread(videos, tiling, n_frames):
        raise AssertionError("they are there already")

    again = clips_of(made.captioned.corpus, uri, tiling, 3, unread)
    np.testing.assert_array_equal(again.load(["cat"])[0], first.load(["cat"])[0])
    with pytest.raises(SpecError, match="other videos or settings.*n_frames"):
        clips_of(made.captioned.corpus, uri, tiling, 2, unread)


def test_clips_of_keyframes(made, tmp_path):
    """A video has as many frames as are asked for where its keyframes alone would be too few; other clips than those of
    even samples."""
    uri, keyframes = str(tmp_path / "clips.lance"), replace(made.tiling(), max_gap=Fraction(4))
    table = clips_of(made.captioned.corpus, uri, keyframes, 3)
    (frames,) = table.load(["cup"])
    assert len(frames) == 3
    assert len({int(frame.mean()) for frame in frames}) == 3
    with pytest.raises(SpecError, match="other videos or settings.*max_gap"):
        clips_of(made.captioned.corpus, uri, made.tiling(), 3)


def test_a_training_on_keyframes_and_one_from_before_there_was_a_choice(made, whole, tmp_path):
    result = made.train(tmp_path / "out", replace(QUICK, sampling="keyframes", epochs=1))
    assert result["epochs"] == 1
    assert not {"sampling", "max_gap_s"} & set(torch.load(whole[0] / "last.pt", weights_only=False)["asked"])
    with pytest.raises(SpecError, match="max_gap_s: 4.0 then, 2.0 now"):
        made.train(tmp_path / "out", replace(QUICK, sampling="keyframes", max_gap_s=2.0, epochs=1))


def test_clips_are_read_under_a_limit_on_memory_and_keep_no_more_than_they_give(tmp_path):
    """A day of one picture: most of it is never in memory, and a header of no time asks for no million samples."""
    path = write_video(tmp_path / "v.mp4", 25, pts=[i * 600 for i in range(25)], time_base=Fraction(1, 1))
    videos = pa.table({"video_id": ["v"], "uri": [str(path)]})
    tiling = Tiling(Fraction(1, 10), 1, 64)
    (row,) = read_clips(videos, tiling, 4, memory_limit=1 << 30).to_pylist()
    assert (row["error"], row["n_frames"], row["n_there"]) == (None, 4, 1441)
    # Planes of 68 MiB, which no memory that this process has free already can hold.
    large = write_blank(tmp_path / "large.mp4", (8192, 4320), "libx264", "yuv444p10le", preset="ultrafast")
    videos = pa.table({"video_id": ["large"], "uri": [str(large)]})
    (row,) = read_clips(videos, tiling, 4, memory_limit=100 << 20).to_pylist()
    assert row["error"].startswith("too_large: decoding takes more memory")
