"""The columns of `videos` that tell when a file was changed, when its video was recorded, and where its first frame
lies on a player's time line."""

import os
from datetime import UTC, datetime

import pytest

from qasir.index.index import Index
from qasir.index.schemas import TIME
from tests.indexes import writing
from tests.qasir.encoding.stubs import encode_stubbed
from tests.videos import write_sounding, write_video

COLUMNS = ["video_id", "modified_at", "recorded_at", "media_offset_s"]
MODIFIED = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
RECORDED = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def times(index):
    rows = index.snapshot().videos(COLUMNS).to_pylist()
    return {row["video_id"]: tuple(row[name] for name in COLUMNS[1:]) for row in rows}


def touch(path, time=MODIFIED):
    """Have the file be changed last at `time`, to the microsecond."""
    ns = round((time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) * 1000
    os.utime(path, ns=(ns, ns + 789))


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_sounding(folder / "sound.mp4", picture_s=0.5)
    write_video(folder / "tagged.mkv", 20, tags={"creation_time": RECORDED.isoformat()})
    (folder / "bad.mp4").write_text("no video")
    for path in folder.iterdir():
        touch(path)
    return folder


def test_rows_tell_the_times_of_their_videos_as_far_as_they_are_known(videos, tmp_path):
    _, index = encode_stubbed(videos, tmp_path / "index")
    assert times(index) == {
        "sound": (MODIFIED, None, 0.5),
        "tagged": (MODIFIED, RECORDED, 0.0),
        "bad": (MODIFIED, None, None),
    }
    schema = index.table("videos").schema
    assert schema.field("modified_at").type == schema.field("recorded_at").type == TIME


def test_a_video_in_segments_tells_them_too(videos, tmp_path):
    write_video(videos / "tagged.mkv", 80, tags={"creation_time": RECORDED.isoformat()}, options={"g": "10"})
    write_sounding(videos / "sound.mp4", 80, picture_s=0.5)
    _, index = encode_stubbed(videos, tmp_path / "index", segment_s=2, segment_bytes=0)
    assert times(index)["tagged"][1:] == (RECORDED, 0.0)
    assert times(index)["sound"][1:] == (None, 0.5)


def test_a_changed_file_has_new_times_and_a_stale_one_those_of_what_is_read(videos, tmp_path):
    _, index = encode_stubbed(videos, tmp_path / "index")
    later = datetime(2026, 2, 3, tzinfo=UTC)
    write_video(videos / "tagged.mkv", 20)
    (videos / "sound.mp4").write_text("no video any more")
    for name in ("tagged.mkv", "sound.mp4"):
        touch(videos / name, later)
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert summary.stale == 1
    assert times(index)["tagged"] == (later, None, 0.0)
    assert times(index)["sound"] == (MODIFIED, None, 0.5)


def test_an_older_index_is_not_encoded_again_for_them(videos, tmp_path):
    _, index = encode_stubbed(videos, tmp_path / "index")
    index.table("videos").drop_columns(COLUMNS[1:])
    assert times(index) == dict.fromkeys(["sound", "tagged", "bad"], (None, None, None))
    summary, index = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (0, 3)
    with writing(index):
        pass
    assert times(index) == dict.fromkeys(["sound", "tagged", "bad"], (MODIFIED, None, None))


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("modified_at > timestamp '2026-01-01'", {"sound", "tagged"}),
        ("modified_at > timestamp '2026-01-02 03:04:05.678901'", set()),
        ("modified_at >= timestamp '2026-01-02 03:04:05.678901Z'", {"sound", "tagged"}),
        ("recorded_at < timestamp '2025-01-01'", {"tagged"}),
        ("coalesce(recorded_at, modified_at) >= timestamp '2026-01-01'", {"sound"}),
        ("date_part('year', recorded_at) = 2024", {"tagged"}),
        ("recorded_at IS NULL AND media_offset_s > 0", {"sound"}),
    ],
)
def test_filters_over_times(videos, tmp_path, where, found):
    _, index = encode_stubbed(videos, tmp_path / "index")
    assert Index.open(index.uri).snapshot().select(where) == found


def test_what_a_container_claims_cannot_fail_a_video(videos, tmp_path):
    for name, text in {"long": "2024-05-06T07:08:09Z " * 20_000, "odd": "2024-99-99T99:99:99+99:99\u202e"}.items():
        write_video(videos / f"{name}.mkv", 20, tags={"DATE_RECORDED": text, "creation_time": RECORDED.isoformat()})
    _, index = encode_stubbed(videos, tmp_path / "index")
    assert {times(index)[name][1] for name in ("long", "odd")} == {RECORDED}
