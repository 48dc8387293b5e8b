import csv
import io
import json
from dataclasses import asdict, replace
from urllib.parse import quote

import opentimelineio as otio
import pytest

from qasir.app.answers import SearchAnswer, SearchHit
from qasir.app.exporting import COLUMNS, content_disposition, exported, selected
from qasir.errors import QueryError

ODD = 'a "b", <c>\n=1+1\t\u202e📼 %23#?'
HIT = SearchHit(
    video_id="day/one", uri="/videos/day/one.mp4", score=0.25, start_s=10.0, end_s=12.5, at_s=11.0,
    media_offset_s=0.5, thumbnail=None, media=None, video_score=None, title="one", date="2026-01-31T00:00:00+00:00",
    date_kind="recorded", duration_s=60.0, codec="h264", width=320, height=240, fps=25.0, above_cutoff=True,
    problem=None, placeholder=None, frames=[],
)  # fmt: skip


def answer(*hits, query="a flamingo"):
    return SearchAnswer(query, True, "moment", 0, 3, 0, 1.0, "attention", None, list(hits))


def table(*hits):
    text = exported(answer(*hits), "csv", {}).decode("utf-8")
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def clips(*hits, query="a flamingo", fps=None):
    text = exported(answer(*hits, query=query), "otio", fps or {}).decode("utf-8")
    timeline = otio.adapters.read_from_string(text, "otio_json")
    (track,) = timeline.tracks
    return timeline, list(track)


def test_a_table_has_a_row_a_hit():
    (row,) = table(HIT)
    assert tuple(row) == COLUMNS
    assert (row["video_id"], row["score"], row["start_s"], row["end_s"]) == ("day/one", "0.25", "10.0", "12.5")
    assert (row["video_score"], row["above_cutoff"], row["problem"]) == ("", "true", "")
    assert table() == []


def test_odd_names_survive_a_table():
    (row,) = table(replace(HIT, video_id=ODD, uri=f"/videos/{ODD}", title=ODD))
    assert (row["video_id"], row["uri"], row["title"]) == (ODD, f"/videos/{ODD}", ODD)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(sign):
    (row,) = table(replace(HIT, video_id=f"{sign}HYPERLINK(1)", title="a=1", score=-0.5))
    assert row["video_id"] == f"'{sign}HYPERLINK(1)"
    assert row["title"] == "a=1"
    assert row["score"] == "-0.5", "a number is no formula"


def test_json_is_the_answer():
    found = answer(HIT, replace(HIT, title=ODD))
    assert json.loads(exported(found, "json", {})) == asdict(found)


def test_a_time_line_names_files_and_moments_in_their_own_frames():
    timeline, (clip, other) = clips(HIT, replace(HIT, video_id="other"), fps={"day/one": 30.0, "other": None})
    assert timeline.metadata["qasir"]["query"] == "a flamingo"
    assert clip.media_reference.target_url == "file:///videos/day/one.mp4"
    seconds = otio.opentime.RationalTime.to_seconds
    assert clip.source_range.start_time == otio.opentime.RationalTime(315, 30), "10.5 s as a player counts"
    assert clip.source_range.duration == otio.opentime.RationalTime(75, 30)
    assert seconds(clip.media_reference.available_range.start_time) == 0
    assert seconds(clip.media_reference.available_range.duration) == pytest.approx(60.5, abs=1 / 30)
    (marker,) = clip.markers
    assert seconds(marker.marked_range.start_time) == pytest.approx(11.5, abs=1 / 30)
    assert (marker.metadata["qasir"]["score"], marker.metadata["qasir"]["query"]) == (0.25, "a flamingo")
    assert other.source_range.start_time.rate == 25, "where the rate is not known"


def test_a_moment_of_one_picture_is_a_frame_long():
    _, (clip,) = clips(replace(HIT, start_s=10.0, end_s=10.0), fps={"day/one": 29.97})
    assert clip.source_range.duration == otio.opentime.RationalTime(1, 29.97)


def test_odd_names_survive_a_time_line():
    timeline, (clip,) = clips(replace(HIT, uri=f"/videos/{ODD}", title=ODD, video_id=ODD), query=ODD)
    assert (clip.name, clip.media_reference.target_url) == (ODD, f"file:///videos/{quote(ODD)}")
    assert clip.metadata["qasir"]["video_id"] == timeline.metadata["qasir"]["query"] == ODD


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("/a b/#1?%.mp4", "file:///a%20b/%231%3F%25.mp4"),
        ("file:///caf%E9.mp4", "file:///caf%E9.mp4"),
        ("s3://bucket/a.mp4?region=x", "s3://bucket/a.mp4?region=x"),
        ("file://host/a.mp4", "file://host/a.mp4"),
    ],
)
def test_a_time_line_names_files_by_their_urls(uri, url):
    _, (clip,) = clips(replace(HIT, uri=uri))
    assert clip.media_reference.target_url == url


def test_some_hits_can_be_selected():
    hits = [replace(HIT, title=str(i)) for i in range(1, 4)]
    assert [hit.title for hit in selected(answer(*hits), "3, 1,1").hits] == ["1", "3"]
    assert selected(answer(*hits), None) == answer(*hits)
    for wrong in ("0", "4", "", "1,", "x", "-1", "1-2", "٣", "9" * 5000):
        with pytest.raises(QueryError, match=r"give numbers of hits, 1 to 3, with commas"):
            selected(answer(*hits), wrong)


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("a flamingo", 'attachment; filename="qasir-a-flamingo.csv"'),
        ("", 'attachment; filename="qasir-hits.csv"'),
        ('../../etc/passwd\r\nX: "y"', 'attachment; filename="qasir-etc-passwd-X-y.csv"'),
        ("é", "attachment; filename=\"qasir-hits.csv\"; filename*=UTF-8''qasir-%C3%A9.csv"),
        ("x" * 500, f'attachment; filename="qasir-{"x" * 60}.csv"'),
    ],
)
def test_the_name_of_a_file_is_harmless(query, header):
    assert content_disposition(query, "csv") == header
    header.encode("latin-1")
