import itertools
import json
from fractions import Fraction

import numpy as np
import pytest

from qasir.demo.corpus import (
    FRAME_RATE,
    HEIGHT,
    MAX_DURATION_S,
    MAX_MOMENT_S,
    MIN_DURATION_S,
    MIN_MOMENT_S,
    frames,
    plan_corpus,
)  # fmt: skip
from qasir.demo.render import is_demo_video, render_corpus, render_video
from qasir.demo.sprites import BACKGROUNDS, background_phrase, describe, load_sprites, noun_phrase
from qasir.video.container import Clock, Video
from qasir.video.tile import Tiling, tile
from tests.videos import write_video


def test_every_sprite_has_a_name_of_its_own_and_a_picture():
    sheet = load_sprites()
    assert len(set(sheet.names)) == len(sheet) > 500
    for picture in sheet.tiles:
        assert np.asarray(picture.getchannel("A")).max() > 200


def test_phrases():
    assert noun_phrase("penguin") == "a penguin"
    assert noun_phrase("onion") == "an onion"
    assert noun_phrase("grapes") == "grapes"
    assert describe(["penguin", "pizza"], "orange") == "a penguin and a pizza on an orange background"


@pytest.fixture(scope="module")
def planned():
    return plan_corpus(60, seed=3)


def test_videos_are_as_the_benchmark_says(planned):
    for video in planned[0]:
        assert MIN_DURATION_S - 0.1 <= video.duration_s <= MAX_DURATION_S
        assert 5 <= len(video.moments) <= 12
        end = 0
        for moment in video.moments:
            assert moment.first_frame >= end
            end = moment.last_frame
            assert MIN_MOMENT_S * FRAME_RATE <= moment.last_frame - moment.first_frame <= MAX_MOMENT_S * FRAME_RATE
            assert 1 <= len(moment.actors) <= 2
            assert all(0.25 <= actor.height <= 0.6 for actor in moment.actors)
        assert end <= video.n_frames


def test_every_query_fits_its_moment_and_no_other_video(planned):
    videos, queries = planned
    assert len(queries) == sum(len(video.moments) for video in videos)

    def reading(text):
        names, _, rest = text.partition(" on a")
        background = next((b for b in BACKGROUNDS if rest and text.endswith(background_phrase(b))), None)
        wanted = {noun_phrase(name): name for name in load_sprites().names}
        if text in wanted:
            return {wanted[text]}, None
        parts = names.split(" and ") if names not in wanted else [names]
        if any(part not in wanted for part in parts):  # a name with "and" in it
            parts = [p for p in wanted if p in names and not any(p in q and p != q for q in wanted if q in names)]
        return {wanted[part] for part in parts}, background

    for query in queries:
        names, background = reading(query.query)
        fits = {
            video.video_id
            for video in videos
            for moment in video.moments
            if names <= moment.names and background in (None, moment.background)
        }
        assert fits == {query.video_id}, query


def test_the_same_seed_gives_the_same_plan_and_another_does_not(planned):
    assert plan_corpus(60, seed=3) == planned
    assert plan_corpus(60, seed=4)[1] != planned[1]


def test_frames_show_sprites_in_moments_and_plain_colour_between(planned):
    video = planned[0][0]
    moment = video.moments[0]
    for index, frame in enumerate(frames(video)):
        inside = any(m.first_frame <= index < m.last_frame for m in video.moments)
        is_plain = (frame == frame[0, 0]).all()
        assert inside != is_plain
        if index > moment.last_frame + 5:
            break
    assert frame.shape == (HEIGHT, 320, 3)


def test_fewer_frames_are_every_so_manyth(planned):
    video = planned[0][1]
    for few, one in zip(frames(video, 10), itertools.islice(frames(video), 0, None, 10), strict=True):
        np.testing.assert_array_equal(few, one)


def test_a_set_at_a_lower_frame_rate_is_sampled_alike(demo, tmp_path):
    """A frame a second, and as many samples as at ten; it is another set than the one at ten."""
    videos, _ = plan_corpus(4, seed=5)
    for video in videos:
        path = demo / "videos" / f"{video.video_id}.mp4"
        shown = [image.pixels for image in tile(str(path), Tiling(Fraction(1), 1, 96))]
        assert len(shown) == -(-video.n_frames // 10)
    with pytest.raises(ValueError, match="holds another set"):
        render_corpus(demo, 4, seed=5)
    with pytest.raises(ValueError, match="divisor of 10"):
        render_corpus(tmp_path / "x", 2, seed=5, frame_rate=3)


def test_a_set_with_keyframes_so_often(tmp_path):
    """The same plan in other files: keyframes at cuts, too, and never further apart; it is another set."""
    render_corpus(tmp_path, 1, seed=5, frame_rate=1, keyframe_s=4.0)
    with Video(str(tmp_path / "videos" / "demo_00000.mp4")) as video:
        timeline = video.timeline()
    keys = [float(key * timeline.time_base) for key in (*timeline.keys, timeline.end)]
    assert max(np.diff(keys)) <= 4.0
    with pytest.raises(ValueError, match="holds another set"):
        render_corpus(tmp_path, 1, seed=5, frame_rate=1)
    with pytest.raises(ValueError, match="multiple of 0.1 s"):
        render_corpus(tmp_path / "x", 1, seed=5, keyframe_s=0.25)


def test_rendering_writes_videos_queries_and_the_licence(demo):
    lines = [json.loads(line) for line in (demo / "queries.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {"query_id", "query", "video_id", "start_s", "end_s", "duration_s"}
    assert sorted({line["video_id"] for line in lines}) == sorted(p.stem for p in (demo / "videos").glob("*.mp4"))
    assert "Apache License" in (demo / "SPRITES_LICENCE.txt").read_text()
    assert all(is_demo_video(str(p)) for p in (demo / "videos").glob("*.mp4"))


def assert_same_videos(folder, other):
    """The same pictures; not to the byte, since x264's first video of a process was seen to differ in one from the same
    video again, in some processes."""
    paths = sorted((folder / "videos").glob("*.mp4"))
    assert [path.name for path in paths] == sorted(path.name for path in (other / "videos").glob("*.mp4"))
    for path in paths:
        shown, again = (
            np.stack([image.pixels for image in tile(str(one), Tiling(Fraction(1), 1, 96))]).astype(float)
            for one in (path, other / "videos" / path.name)
        )
        assert np.abs(shown - again).mean(axis=(1, 2, 3)).max() < 0.5, path.name


def test_rendering_again_renders_only_what_is_missing_and_the_same(demo, tmp_path):
    render_corpus(tmp_path, 4, seed=5, frame_rate=1)
    assert_same_videos(demo, tmp_path)
    assert (tmp_path / "queries.jsonl").read_text() == (demo / "queries.jsonl").read_text()
    (tmp_path / "videos" / "demo_00002.mp4").unlink()
    assert render_corpus(tmp_path, 4, seed=5, frame_rate=1)[0] == 1
    with pytest.raises(ValueError, match="another set"):
        render_corpus(tmp_path, 5, seed=5, frame_rate=1)


def test_processes_side_by_side_render_what_one_does(demo, tmp_path):
    render_corpus(tmp_path, 4, seed=5, frame_rate=1, processes=2)
    assert_same_videos(demo, tmp_path)


def test_a_video_of_the_demo_has_every_frame(planned, tmp_path):
    video = planned[0][0]
    assert render_video(video, tmp_path) == video.video_id
    with Video(str(tmp_path / f"{video.video_id}.mp4")) as rendered:
        assert rendered.frame_rate == FRAME_RATE
        assert len(list(rendered.samples([Clock(Fraction(FRAME_RATE))]))) == video.n_frames


def test_other_footage_is_not_taken_for_the_demo(tmp_path):
    assert not is_demo_video(str(write_video(tmp_path / "v.mp4", 3)))
    assert not is_demo_video(str(tmp_path / "nowhere.mp4"))
