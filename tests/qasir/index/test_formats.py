"""Indexes that older versions of the library wrote."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qasir.errors import QueryError
from qasir.index.filters import with_nulls
from qasir.index.index import Index
from qasir.index.lease import Run
from qasir.index.maintenance import index_ids
from qasir.index.schemas import TIME, format_of, videos_schema
from qasir.video.corpus import current_fingerprint
from qasir.video.video_file import modified_at
from tests.indexes import make_index, writing

ADDED = ["failed_fingerprint", "attempts", "modified_at", "recorded_at", "media_offset_s"]
"""What was added to `videos` since its first version."""


@pytest.fixture
def older(tmp_path):
    """An index that version 1 of the format made, of two videos and a broken one."""
    archive = Path(__file__).parents[2] / "data" / "index-format-1.zip"
    shutil.unpack_archive(archive, tmp_path / "older")
    return Index.open(str(tmp_path / "older"))


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
