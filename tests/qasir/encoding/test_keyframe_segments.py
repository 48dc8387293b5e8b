"""Keyframe sampling in the stages of encoding: rows do not depend on how a video is cut or with what it is encoded."""

from dataclasses import replace

import numpy as np
import pytest

from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import decode_segments
from qasir.video.container import Video
from tests.qasir.encoding.stubs import SPEC, encode_stubbed
from tests.qasir.encoding.test_stages import plan
from tests.qasir.video.test_keyframes import ODD_FILES
from tests.qasir.video.test_lookahead import clip
from tests.videos import break_frame, write_video

KEYS = replace(SPEC, cells=False, sampling="keyframes", fps=2.0, max_gap_s=0.7)
UNIFORM = replace(SPEC, cells=False)


def decoded(path, specs, *, segment_s=300, needs=None, handed=True, **options):
    """(rows, reports, number of segments): every index's super images, in order."""
    needs = {i: [] for i in range(len(specs))} if needs is None else needs
    segments = cut_videos(plan(path, needs), specs, segment_s=segment_s, segment_bytes=0)
    if not handed:
        rows = [{**row, "schedules": []} for row in segments.to_pylist()]
        segments = segments.from_pylist(rows, schema=segments.schema)
    parts = list(decode_segments(segments, specs, **options))
    tiles = [row for part in parts for row in part.tiles.to_pylist()]
    reports = [row for part in parts for row in part.reports.to_pylist()]
    return [of_index(tiles, i) for i in range(len(specs))], reports, len(segments)


def of_index(tiles, index):
    return sorted(
        (t["position"], t["start_s"], t["end_s"], t["n_valid"], tuple(t["cell_s"]), t["pixels"])
        for t in tiles
        if index in t["indexes"]
    )


def facts(reports, name):
    return [sum(r[name] for r in reports if r["index"] == i) for i in range(1 + max(r["index"] for r in reports))]


CUT = ["closed GOPs with B-frames", "open GOPs", "one GOP", "keyframes only", "HEVC", "VP9", "AV1", "MJPEG"]
ONE_SEGMENT = ["intra refresh", "MPEG-2 transport stream", "MPEG-4 in AVI"]


@pytest.mark.parametrize("kind", CUT + ONE_SEGMENT)
@pytest.mark.parametrize("grid", [1, 3])
def test_rows_do_not_depend_on_how_a_video_is_cut(tmp_path, kind, grid):
    path = clip(tmp_path, kind)
    specs = [replace(KEYS, grid=grid)]
    (whole,), (report,), n_segments = decoded(path, specs)
    assert n_segments == 1
    assert len(whole) == report["n_super_images"] > 0
    for segment_s in (1, 4):
        (rows,), reports, n_segments = decoded(path, specs, segment_s=segment_s)
        assert rows == whole
        assert (n_segments > 1) == (kind in CUT)
        for name in ("n_super_images", "n_sampled"):
            assert facts(reports, name) == [report[name]]
        durations = [r["duration_s"] for r in reports if r["duration_s"] is not None]
        assert set(durations) == {report["duration_s"]}
        assert reports[-1]["duration_s"] is not None
        assert {r["media_offset_s"] for r in reports if r["media_offset_s"] is not None} == {report["media_offset_s"]}


@pytest.mark.parametrize("name", ["uneven frames", "HEVC with open GOPs", "an edit list", "one of many marked"])
def test_nor_do_those_of_odd_files(tmp_path, name):
    path = ODD_FILES[name](tmp_path)
    whole, _, _ = decoded(path, [KEYS])
    for handed in (True, False):
        rows, _, n_segments = decoded(path, [KEYS], segment_s=1, handed=handed)
        assert rows == whole
        assert n_segments > 1


def _in_avi(folder):
    """Packets' timestamps number them as they are decoded."""
    return write_video(folder / "v.avi", 100, options={"g": "24", "bf": "3", "x264-params": "scenecut=0"})


@pytest.mark.parametrize(
    "name", ["a first keyframe of which nothing is shown", "H.264 with B-frames in AVI", "HEVC, several edits"]
)
def test_one_sampling_leaves_another_as_it_is_alone(tmp_path, name):
    path = (ODD_FILES | {"H.264 with B-frames in AVI": _in_avi})[name](tmp_path)
    alone = [decoded(path, [spec]) for spec in (KEYS, UNIFORM)]
    for segment_s in (1, 300):
        together, reports, _ = decoded(path, [KEYS, UNIFORM], segment_s=segment_s)
        assert together == [rows for (rows,), _, _ in alone]
        for index, (_, (report,), _) in enumerate(alone):
            found = [r["duration_s"] for r in reports if r["index"] == index and r["duration_s"] is not None]
            assert set(found) == {report["duration_s"]}


def test_a_damaged_end_leaves_the_uniform_rows_as_they_are_alone(tmp_path):
    path = break_frame(clip(tmp_path, "closed GOPs with B-frames"), 119)
    alone, (report,), _ = decoded(path, [UNIFORM], allow_partial=True)
    together, reports, _ = decoded(path, [KEYS, UNIFORM], allow_partial=True)
    assert together[1:] == alone
    assert reports[1]["duration_s"] == report["duration_s"] < reports[0]["duration_s"]


def test_a_super_image_ends_where_the_next_one_begins_and_the_last_one_with_the_video(tmp_path):
    path = clip(tmp_path, "open GOPs")
    (rows,), (report,), _ = decoded(path, [KEYS])
    assert [row[1] for row in rows[1:]] == [row[2] for row in rows[:-1]]
    assert rows[-1][2] == report["duration_s"]
    for _, start_s, end_s, n_valid, cell_s, _ in rows:
        assert len(set(cell_s)) == len(cell_s) == n_valid
        assert list(cell_s) == sorted(cell_s)
        assert cell_s[0] == start_s
        assert cell_s[-1] < end_s


@pytest.mark.parametrize("kind", ["closed GOPs with B-frames", "intra refresh", "MPEG-2 transport stream"])
def test_indexes_of_different_samplings_share_a_run(tmp_path, kind):
    path = clip(tmp_path, kind)
    specs = [KEYS, UNIFORM, replace(KEYS, grid=3, fps=1.0, max_gap_s=4.0), replace(KEYS, model="other")]
    alone = [decoded(path, [spec])[0][0] for spec in specs]
    for segment_s in (3, 300):
        together, reports, _ = decoded(path, specs, segment_s=segment_s)
        assert together == alone
        assert facts(reports, "n_super_images") == [len(rows) for rows in alone]


def test_one_decode_serves_both_samplings(tmp_path, monkeypatch):
    path = clip(tmp_path, "closed GOPs with B-frames")
    read = []
    samples = Video.samples
    monkeypatch.setattr(
        Video, "samples", lambda self, *args, **options: read.append(1) or samples(self, *args, **options)
    )
    decoded(path, [KEYS, UNIFORM])
    assert read == [1]


def test_committed_positions_are_not_decoded_again_and_still_counted(tmp_path):
    path = clip(tmp_path, "closed GOPs with B-frames")
    (whole,), _, _ = decoded(path, [KEYS])
    for committed in ([0, 1], [0], [2, 3], list(range(len(whole))), [len(whole) - 1]):
        for segment_s in (3, 300):
            (rows,), reports, _ = decoded(path, [KEYS], segment_s=segment_s, needs={0: committed})
            assert rows == [row for row in whole if row[0] not in committed]
            assert facts(reports, "n_super_images") == [len(whole)]
            assert facts(reports, "n_new") == [len(whole) - len(committed)]


def test_what_is_damaged_gives_the_same_rows_however_it_is_cut(tmp_path):
    path = break_frame(clip(tmp_path, "closed GOPs with B-frames"), 97)
    whole, reports, _ = decoded(path, [KEYS], allow_partial=True)
    cut, cut_reports, n_segments = decoded(path, [KEYS], segment_s=2, allow_partial=True)
    assert cut == whole
    assert n_segments > 1
    assert sum(r["decode_errors"] for r in cut_reports) >= 1 <= sum(r["decode_errors"] for r in reports)
    _, reports, _ = decoded(path, [KEYS])
    assert {(r["status"], r["error_kind"]) for r in reports} == {("failed", "decode")}


def test_a_file_of_very_many_keyframes_is_cut_and_read_once_for_its_times(tmp_path, monkeypatch):
    pictures = [np.full((16, 16, 3), i % 200, np.uint8) for i in range(3000)]
    path = write_video(
        tmp_path / "v.mkv", 3000, rate=100, size=(16, 16), codec="mjpeg", pix_fmt="yuvj420p", pictures=pictures
    )
    read = []
    timeline = Video.timeline
    monkeypatch.setattr(Video, "timeline", lambda self: read.append(1) or timeline(self))
    (rows,), _, n_segments = decoded(path, [replace(KEYS, fps=50.0)], segment_s=10)
    assert (n_segments, len(read)) == (3, 1)
    assert [at for row in rows for at in row[4]] == pytest.approx([k / 50 for k in range(1500)])


def test_an_index_holds_the_times_and_needs_nothing_when_encoded_again(tmp_path):
    """Through a child process, whose segments come and go as Arrow streams."""
    (tmp_path / "videos").mkdir()
    path = clip(tmp_path / "videos", "closed GOPs with B-frames")
    (expected,), _, _ = decoded(path, [KEYS])
    summary, index = encode_stubbed(
        tmp_path / "videos", tmp_path / "index", spec=KEYS, isolate=True, segment_s=3, segment_bytes=0
    )
    assert summary.encoded == 1
    rows = (
        index.table("super_images").to_table(columns=["position", "start_s", "end_s", "n_valid", "cell_s"]).to_pylist()
    )
    found = sorted((*list(row.values())[:4], tuple(row["cell_s"])) for row in rows)
    assert found == [row[:5] for row in expected]
    assert encode_stubbed(tmp_path / "videos", tmp_path / "index", spec=KEYS)[0].encoded == 0
