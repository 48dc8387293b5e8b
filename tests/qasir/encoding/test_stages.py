import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import decode_segments
from qasir.encoding.encoder import Encoder
from qasir.encoding.rows import TILE_SCHEMA, plan_table
from qasir.index.spec import TONE_MAPPED
from qasir.video.corpus import VideoFile, current_fingerprint
from tests.high_range import write_high_range
from tests.qasir.encoding.stubs import SPEC, PixelModel
from tests.qasir.video.test_lookahead import clip
from tests.videos import write_video

SMALL = replace(SPEC, cells=False)


def plan(path, needs):
    video = VideoFile("v", str(path), Path(path).stat().st_size, current_fingerprint(str(path)))
    return plan_table([video], {"v": needs})


def decoded(path, specs, needs, *, segment_s=300):
    """(tiles, reports by index) of a video, cut and decoded."""
    segments = cut_videos(plan(path, needs), segment_s=segment_s, segment_bytes=0)
    parts = list(decode_segments(segments, specs))
    return (
        [row for part in parts for row in part.tiles.to_pylist()],
        [row for part in parts for row in part.reports.to_pylist()],
    )


def without_order(tiles):
    return sorted((t["position"], t["start_s"], t["end_s"], t["n_valid"], t["pixels"]) for t in tiles)


def test_a_long_video_is_cut_into_stretches_of_whole_seconds(tmp_path):
    path = write_video(tmp_path / "v.mp4", 100)
    rows = cut_videos(plan(path, {0: []}), segment_s=3, segment_bytes=0).to_pylist()
    assert [(r["segment"], r["n_segments"], r["start_s"], r["stop_s"]) for r in rows] == [
        (0, 3, 0, 3),
        (1, 3, 3, 6),
        (2, 3, 6, None),
    ]
    (row,) = cut_videos(plan(path, {0: []}), segment_s=300).to_pylist()
    assert (row["start_s"], row["stop_s"]) == (0, None)


def test_a_small_file_that_states_hours_is_not_cut(tmp_path):
    path = write_video(tmp_path / "v.mp4", 100)
    assert len(cut_videos(plan(path, {0: []}), segment_s=1, segment_bytes=path.stat().st_size // 2)) == 2


def test_a_video_without_clean_entry_points_is_not_cut(tmp_path):
    path = clip(tmp_path, "intra refresh")
    assert len(cut_videos(plan(path, {0: []}), segment_s=1, segment_bytes=0)) == 1
    assert len(cut_videos(plan(clip(tmp_path, "open GOPs"), {0: []}), segment_s=1, segment_bytes=0)) == 10


@pytest.mark.parametrize("suffix", [".avi", ".ts"])
def test_what_cannot_be_sought_exactly_is_one_segment(tmp_path, suffix):
    path = write_video(tmp_path / f"v{suffix}", 100, codec="mpeg4")
    assert len(cut_videos(plan(path, {0: []}), segment_s=1, segment_bytes=0)) == 1
    (tmp_path / "bad.mp4").write_bytes(b"no")
    assert len(cut_videos(plan(tmp_path / "bad.mp4", {0: []}), segment_s=1, segment_bytes=0)) == 1


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("fps", "n_frames"), [(2.0, 97), (0.7, 140), (10.0, 60), (3.0, 1)])
def test_segments_give_what_the_uncut_video_gives(tmp_path, grid, fps, n_frames):
    path = write_video(tmp_path / "v.mp4", n_frames, options={"g": "7", "bf": "2"})
    spec = replace(SMALL, grid=grid, fps=fps)
    whole, (report,) = decoded(path, [spec], {0: []})
    for segment_s in (1, 2, 4):
        tiles, reports = decoded(path, [spec], {0: []}, segment_s=segment_s)
        assert without_order(tiles) == without_order(whole)
        assert facts(reports, "n_super_images") == facts([report], "n_super_images") == len(whole)
        assert facts(reports, "n_sampled") == facts([report], "n_sampled")


def facts(reports, name):
    return sum(report[name] for report in reports)


@pytest.mark.parametrize("stated_s", [1, 60])
def test_a_header_that_lies_about_the_duration_changes_nothing(tmp_path, monkeypatch, stated_s):
    path = write_video(tmp_path / "v.mp4", 97, options={"g": "7"})
    whole, _ = decoded(path, [SMALL], {0: []})
    monkeypatch.setattr("qasir.video.container.Video.stated_duration_s", float(stated_s))
    tiles, reports = decoded(path, [SMALL], {0: []}, segment_s=2)
    assert without_order(tiles) == without_order(whole)
    assert facts(reports, "n_super_images") == len(whole)


def test_committed_positions_are_not_decoded_again_and_still_counted(tmp_path):
    path = write_video(tmp_path / "v.mp4", 97, options={"g": "7"})
    whole, _ = decoded(path, [SMALL], {0: []})
    for committed in ([0, 1, 2], [0], [3, 4], list(range(len(whole))), [len(whole) - 1]):
        for segment_s in (3, 300):
            tiles, reports = decoded(path, [SMALL], {0: committed}, segment_s=segment_s)
            assert without_order(tiles) == without_order(t for t in whole if t["position"] not in committed)
            assert facts(reports, "n_super_images") == len(whole)
            assert facts(reports, "n_new") == len(whole) - len(committed)


def test_indexes_with_one_tiling_share_their_tiles(tmp_path):
    path = write_video(tmp_path / "v.mp4", 97)
    specs = [SMALL, replace(SMALL, model="other", thumbnails=True), replace(SMALL, grid=3, fps=5.0)]
    tiles, reports = decoded(path, specs, {0: [1], 1: [], 2: []})
    shared = [t for t in tiles if t["indexes"] != [2]]
    assert {t["position"]: t["indexes"] for t in shared} == {0: [0, 1], 1: [1], 2: [0, 1], 3: [0, 1], 4: [0, 1]}
    assert all(t["thumbnail"] for t in shared)
    own, _ = decoded(path, specs, {2: []})
    assert without_order(t for t in tiles if t["indexes"] == [2]) == without_order(own)
    assert [r["index"] for r in reports] == [0, 1, 2]
    assert [r["seconds"] > 0 for r in reports] == [True, False, False], "a segment's time is told once"


def test_one_encoder_serves_indexes_of_different_specs(tmp_path):
    path = write_video(tmp_path / "v.mp4", 97)
    specs = [replace(SPEC, thumbnails=True), replace(SPEC, grid=3, cells=False)]
    segments = cut_videos(plan(path, {0: [], 1: [1]}))
    tiles = pa.concat_tables([part.tiles for part in decode_segments(segments, specs)])
    rows = Encoder(specs, [PixelModel()] * 2)(tiles).to_pylist()
    for index, spec in enumerate(specs):
        mine = [r for r in rows if r["index"] == index]
        assert [r["position"] for r in mine] == [p for p in range(-(-20 // spec.grid**2)) if index == 0 or p != 1]
        assert all((r["cell_embeddings"] is not None) == spec.cells for r in mine)
        assert all((r["thumbnail"] is not None) == spec.thumbnails for r in mine)
        vector = np.frombuffer(mine[0]["embedding"], np.float16).astype(np.float32)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-2)
    assert {r["failure"] for r in rows} == {None}
    assert len({r["began"] for r in rows}) == 1
    assert all(r["encode_s"] > 0 for r in rows)


def test_time_that_two_calls_share_is_told_once(tmp_path):
    path = write_video(tmp_path / "v.mp4", 97)
    tiles = pa.Table.from_pylist(decoded(path, [SMALL], {0: []})[0], schema=TILE_SCHEMA)

    class SlowModel(PixelModel):
        meeting = threading.Barrier(2, timeout=60)

        def encode_images(self, pixels, *, grid=None):
            self.meeting.wait()
            time.sleep(0.2)
            return super().encode_images(pixels, grid=grid)

    encoder = Encoder([SMALL], [SlowModel()])
    since = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        rows = pa.concat_tables(threads.map(encoder, [tiles, tiles]))
    assert 0.2 <= pc.sum(rows["encode_s"]).as_py() <= time.perf_counter() - since


def test_more_indexes_than_bits_share_a_run(tmp_path):
    path = write_video(tmp_path / "v.mp4", 10)
    tiles, reports = decoded(path, [SMALL] * 70, {i: [] for i in range(70)})
    assert [t["indexes"] for t in tiles] == [list(range(70))]
    assert [r["index"] for r in reports] == list(range(70))
    table = pa.Table.from_pylist(tiles, schema=TILE_SCHEMA)
    assert Encoder([SMALL] * 70, [PixelModel()] * 70)(table)["index"].to_pylist() == list(range(70))


def test_an_alarm_ends_a_process_that_hangs_with_the_interpreters_lock():
    code = """
import ctypes
from qasir.encoding.alarm import Alarm
with Alarm(0.2):
    ctypes.PyDLL(None).sleep(60)  # PyDLL keeps the lock, as a decoder that hangs in C may
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGALRM


def test_an_alarm_is_silent_in_time_and_afterwards():
    code = """
import time
from qasir.encoding.alarm import Alarm
with Alarm(1.0) as alarm:
    for _ in range(4):
        alarm.set()
        time.sleep(0.3)
with Alarm(0.5) as alarm:
    alarm.off()
    time.sleep(0.7)
with Alarm(0.5):
    pass
time.sleep(0.7)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_indexes_of_other_colours_are_drawn_from_one_decoding(tmp_path):
    path = write_high_range(tmp_path / "v.mp4", 10)
    older, newer = SMALL, replace(SMALL, colour=TONE_MAPPED)
    tiles, reports = decoded(path, [older, newer, older], {0: [], 1: [], 2: []})
    assert [(tile["indexes"], tile["position"]) for tile in tiles] == [([0, 2], 0), ([1], 0)]
    assert [report["n_super_images"] for report in reports] == [1, 1, 1]
    as_coded, mapped = (np.frombuffer(tile["pixels"], np.uint8).astype(int) for tile in tiles)
    assert np.abs(as_coded - mapped).mean() > 10
    (alone,), _ = decoded(path, [older], {0: []})
    np.testing.assert_array_equal(np.frombuffer(alone["pixels"], np.uint8), as_coded)
