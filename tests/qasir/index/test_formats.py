"""Indexes that older versions of the library wrote."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from qasir.app.catalogue import StoredVideo
from qasir.app.cells import stored_picture
from qasir.encoding.encode import encode
from qasir.encoding.options import EncoderOptions
from qasir.errors import QueryError, UnreadableIndexError
from qasir.index.filters import with_nulls
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.maintenance import index_ids
from qasir.index.schemas import FORMAT_KEY, ROOT_KEY, SOURCE_KEY, TIME, format_of, videos_schema
from qasir.index.verification import untimed_videos
from qasir.retrieval.vector_source import StoredVectors
from qasir.video.corpus import current_fingerprint
from qasir.video.video_file import modified_at
from tests.indexes import make_index, writing
from tests.videos import write_video

ADDED = ["failed_fingerprint", "attempts", "modified_at", "recorded_at", "media_offset_s"]
"""What was added to `videos` since its first version."""


DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def older(tmp_path):
    """An index that version 1 of the format made, of two videos and a broken one."""
    return unpacked(tmp_path, 1)


def unpacked(folder, number):
    shutil.unpack_archive(DATA / f"index-format-{number}.zip", folder / "older")
    return Index.open(str(folder / "older"))


@pytest.fixture
def evenly_spaced(tmp_path):
    """An index of format 2 from before super images told the times of their cells: two videos of 6.0 and 2.5 s, N = 2,
    a sample a second. Its corpus is now where a test writes one."""
    index = unpacked(tmp_path, 2)
    root = str(tmp_path / "videos")
    for name in ("runs", "super_images", "videos"):
        index.table(name).update_schema_metadata({ROOT_KEY.decode(): root, SOURCE_KEY.decode(): root})
    return Index.open(index.uri)


def without_times(index):
    """An index of today's format from before there were the columns of times."""
    index.table("videos").drop_columns(ADDED[2:])
    return index


def test_columns_that_an_older_index_lacks_are_null_to_readers(older):
    table = older.snapshot().videos()
    assert set(table.schema.names) == set(videos_schema(older.spec).names)
    assert table.select(ADDED).to_pylist() == [dict.fromkeys(ADDED)] * 3
    assert table.schema.field("modified_at").type == TIME
    assert older.snapshot().videos(["media_offset_s"]).to_pylist() == [{"media_offset_s": None}] * 3
    assert older.snapshot().duckdb().sql("SELECT count(*) FROM videos WHERE recorded_at IS NULL").fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("condition", "n"),
    [
        ("modified_at > timestamp '2026-01-01'", 0),
        ("modified_at > timestamp '2026-01-01' OR status = 'encoded'", 2),
        ("`modified_at` IS NULL", 3),
        ("NOT (media_offset_s > 0.5)", 0),
        ("Recorded_At IS NULL AND attempts IS NULL", 3),
        ("date_part('year', recorded_at) = 2026", 0),
        ("failed_fingerprint LIKE '1%'", 0),
        ("status = 'recorded_at'", 0),
    ],
)
def test_filters_over_columns_that_an_older_index_lacks(older, condition, n):
    assert len(older.snapshot().videos(["video_id"], condition)) == n


def test_an_error_names_the_columns_that_an_older_index_lacks_too(older):
    with pytest.raises(QueryError, match=r"the columns of `videos` are .*, modified_at, "):
        older.snapshot().videos(["video_id"], "no_such = 1")


def test_only_names_are_replaced():
    columns = {"recorded_at": TIME}
    assert with_nulls("recorded_at > x", columns) == "CAST(NULL AS timestamp) > x"
    for text in ("x = 'it''s recorded_at'", "my_recorded_at = 1", '"recorded_at" = y', "recorded_at_x = 1"):
        assert with_nulls(text, columns) == text
    assert with_nulls("recorded_at = 'recorded_at'", {}) == "recorded_at = 'recorded_at'"


def test_the_next_writer_adds_the_columns_and_fills_in_when_files_changed(older):
    with Run(older, "next"):
        rows = older.table("videos").to_table().to_pylist()
    assert {row["video_id"]: row["modified_at"] for row in rows} == {
        row["video_id"]: modified_at(row["fingerprint"]) for row in rows
    }
    assert any(row["modified_at"] is not None for row in rows)
    assert all(row["recorded_at"] is row["media_offset_s"] is None for row in rows)
    assert older.table("videos").schema.field("modified_at").type == TIME


def test_an_index_of_this_format_without_the_columns_is_brought_up_to_date_once(tmp_path):
    index = without_times(make_index(tmp_path / "index", [2, 3], failed=["x"]))
    with writing(index) as writer:
        index_ids(writer)
        videos = index.table("videos")
        assert set(ADDED) <= set(videos.schema.names)
        assert format_of(videos.schema) == 2
    version = index.version
    with writing(index):
        assert index.version == version
    assert len(index.snapshot().videos(["video_id"], "modified_at IS NULL")) == 3
    assert len(index.snapshot().super_images([])) == 5


TIMES_OF_OLDER = {"a": [(k, k + 1.0) for k in range(6)], "more/b": [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)]}


def cell_spans(index):
    """{video_id: the spans of its cells}, as they are searched."""
    cells = StoredVectors(index.snapshot()).load("cell")
    spans = np.stack([cells.start_s, cells.end_s], axis=1)
    return {name: [tuple(span) for span in spans[cells.rows(name)].tolist()] for name in cells.video_ids}


def test_cells_of_an_index_without_their_times_are_where_they_were(evenly_spaced):
    assert cell_spans(evenly_spaced) == TIMES_OF_OLDER
    assert evenly_spaced.snapshot().super_images(["cell_s"])["cell_s"].to_pylist() == [None] * 3
    assert "cell_s" in evenly_spaced.snapshot().super_images().schema.names
    counted = "SELECT count(*) FROM super_images WHERE cell_s IS NULL"
    assert evenly_spaced.snapshot().duckdb().sql(counted).fetchall() == [(3,)]


def test_stored_pictures_of_an_index_without_times_are_found(evenly_spaced):
    video = StoredVideo("a", "a.mp4", "f", 6.0, *[None] * 7)
    shown = [stored_picture(evenly_spaced.snapshot(), video, second) for second in (0.0, 0.9, 1.0, 4.5, 5.0, 9.0)]
    assert shown[0] == shown[1] != shown[2]
    assert shown[4] == shown[5] != shown[3]


def test_more_videos_and_changed_ones_tell_their_times_beside_older_rows(evenly_spaced, tmp_path):
    folder = tmp_path / "videos"
    write_video(folder / "new.mp4", 15)
    options = EncoderOptions(grid=2)
    assert encode(folder, evenly_spaced.uri, model=options, isolate=False).encoded == 1
    assert cell_spans(evenly_spaced) == TIMES_OF_OLDER | {"new": [(0.0, 1.0), (1.0, 1.5)]}
    told = evenly_spaced.snapshot().super_images(["cell_s"])["cell_s"].to_pylist()
    assert told == [None, None, None, [0.0, 1.0]]
    assert format_of(evenly_spaced.table("videos").schema) == 2
    write_video(folder / "a.mp4", 60)
    assert encode(folder, evenly_spaced.uri, model=options, isolate=False).encoded == 1
    assert cell_spans(evenly_spaced) == TIMES_OF_OLDER | {"new": [(0.0, 1.0), (1.0, 1.5)]}
    rows = evenly_spaced.snapshot().super_images(["cell_s"], video_ids=["a"])
    assert rows["cell_s"].to_pylist() == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0]]


def test_an_index_of_keyframes_has_a_number_that_older_libraries_refuse(tmp_path):
    """They would take its samples for evenly spaced; those of even samples they go on reading."""
    keyframes = make_index(tmp_path / "keyframes", [2], sampling="keyframes")
    even = make_index(tmp_path / "even", [2])
    assert {name: format_of(keyframes.table(name).schema) for name in ("videos", "super_images", "runs")} == {
        "videos": 3, "super_images": 3, "runs": 3,
    }  # fmt: skip
    assert format_of(even.table("videos").schema) == 2
    with writing(keyframes), writing(even):
        pass
    assert [format_of(one.table("videos").schema) for one in (keyframes, even)] == [3, 2]
    keyframes.table("videos").update_schema_metadata({FORMAT_KEY.decode(): "4"})
    with pytest.raises(UnreadableIndexError, match=r"newer version of qasir \(format 4; this one reads up to 3\)"):
        Index.open(keyframes.uri)


def test_repair_finds_videos_whose_cells_have_no_times(tmp_path):
    assert untimed_videos(make_index(tmp_path / "a", [2, 1], sampling="keyframes")) == set()
    assert untimed_videos(make_index(tmp_path / "b", [2, 1], sampling="keyframes", timed=False)) == {"v000", "v001"}
    assert untimed_videos(make_index(tmp_path / "c", [2, 1], timed=False)) == set()


def test_an_empty_index_without_the_columns_is_brought_up_to_date(tmp_path):
    index = without_times(make_index(tmp_path / "index", [1]))
    index.table("videos").delete("true")
    with writing(index):
        assert set(ADDED) <= set(index.table("videos").schema.names)


def test_a_kill_between_the_columns_is_made_up_for(tmp_path):
    index = without_times(make_index(tmp_path / "index", [1]))
    index.table("videos").add_columns([videos_schema(index.spec).field("recorded_at")])
    with writing(index):
        assert set(ADDED) <= set(index.table("videos").schema.names)


@pytest.mark.parametrize(
    ("fingerprint", "time"),
    [
        ("12-1767225600123456789", datetime(2026, 1, 1, 0, 0, 0, 123456, UTC)),
        ("12--1500", datetime(1969, 12, 31, 23, 59, 59, 999998, UTC)),
        *((f"12-{time_ns}", None) for time_ns in ("0", "None", "", str(10**30), "9" * 5000)),
        ("missing", None),
        ("unreachable", None),
        ("f", None),
    ],
)
def test_when_a_file_was_changed_last_is_in_its_fingerprint(fingerprint, time):
    assert modified_at(fingerprint) == time


def test_the_time_of_a_real_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    os.utime(path, ns=(0, 1_600_000_000_000_001_999))
    assert modified_at(current_fingerprint(str(path))) == datetime(2020, 9, 13, 12, 26, 40, 1, UTC)
